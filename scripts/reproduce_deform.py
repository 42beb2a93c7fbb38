"""Does the accuracy survive? Ordinary, depthwise and deformable convolutions in a small detector, trained and priced.

Trains every variant of `models/centre_net.py` on scenes with items of many scales (`models/scenes.py`) with paired seeds, prices
each on the FPGA unit with the offsets it computes, and writes results.csv, table.csv, table.md, trends.md (CoDeNet's Table 1,
trend by trend), pareto.png and summary.json; with --grid also points of other widths and bounds for a co-design search
(points.csv, and points_bits.csv with networks rounded to 8 and 4 bits) and what bounding costs (bounds.csv, bounds.md; --bounds
trains the nearer bound at full width for every seed). Interrupted, it goes on where it was; `--jobs 0` trains nothing and writes
tables of what is there. All settings were chosen by the validation AP50 of the depthwise variant alone.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from picojoule.deform_bounds import bound_markdown, bound_rows
from picojoule.deform_figure import plot_front
from picojoule.deform_grid import bits_rows, grid_rows
from picojoule.deform_points import grid_points, main_points, near_points
from picojoule.deform_pricing import HARDWARE, clipped_share, price_points
from picojoule.deform_study import open_folder, results_of, round_points, rounded_of, run_points
from picojoule.deform_tables import markdown, result_rows, variant_rows
from picojoule.deform_training import TrainingSettings
from picojoule.deform_trends import trend_markdown, trend_rows
from picojoule.models.centre_net import BOUNDED_VARIANTS
from picojoule.sim.errors import PicojouleError
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import save

QUICK = {"train_scenes": 200, "val_scenes": 40, "test_scenes": 40, "epochs": 1, "quantized_epochs": 1}


def main() -> int:
    """Train, price, write; 1 if a point failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="runs/deform, or runs/deform-quick with --quick, if not given")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--grid", action="store_true", help="also widths 0.5 and 1, bounds 3 and 7, two seeds")
    parser.add_argument("--bounds", action="store_true", help="also bound 3 at full width for every seed")
    parser.add_argument("--quick", action="store_true", help="a minute's run that shows that all parts work; no result")
    parser.add_argument("--train-only", action="store_true", help="leave out prices, tables and figure")
    given = parser.parse_args()
    if given.seeds < 1 or given.jobs < 0:
        parser.error("--seeds must be at least 1, --jobs at least 0")
    out = given.out or Path("runs/deform-quick" if given.quick else "runs/deform")
    settings = TrainingSettings(**(QUICK if given.quick else {}))
    points = main_points(given.seeds) + (grid_points(min(2, given.seeds)) if given.grid else [])
    points += near_points(given.seeds) if given.bounds else []
    try:
        digest, problems = open_folder(out, settings), []
        if given.jobs:
            problems = run_points(out, settings, points, jobs=given.jobs, tell=tell)
            problems += round_points(out, settings, points, jobs=given.jobs, tell=tell)
        if not given.train_only:
            write_tables(out, given.seeds, given.grid, digest)
    except PicojouleError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def tell(text: str) -> None:
    """Say how far we are."""
    print(text, flush=True)


def write_tables(out: Path, seeds: int, grid: bool, digest: str) -> None:
    """Price what is trained and write every table and the figure."""
    start = time.process_time()
    results = results_of(out, main_points(seeds))
    prices = price_points(out, results)
    rows = variant_rows(results, prices, rounded_of(out, results))
    of_grid = results_of(out, grid_points()) if grid else {}
    every = results | of_grid | results_of(out, near_points(seeds))
    shares = {point: clipped_share(out, point) for point in every if point.variant in BOUNDED_VARIANTS}
    trends = trend_rows(every, shares)
    write_atomic(out / "results.csv", rows_to_csv(result_rows(every)))
    write_atomic(out / "table.csv", rows_to_csv(rows))
    write_atomic(out / "table.md", markdown(rows))
    write_atomic(out / "trends.md", trend_markdown(trends))
    save(plot_front(rows), out / "pareto.png")
    if bounds := bound_rows(every, shares):
        write_atomic(out / "bounds.csv", rows_to_csv(bounds))
        write_atomic(out / "bounds.md", bound_markdown(bounds))
    cpu_s = {point.name: found["times"]["cpu_s"] for point, found in every.items()}
    summary = {
        "settings": json.loads((out / "settings.json").read_text())["settings"],
        "digest": digest,
        "hardware": HARDWARE,
        "seeds": seeds,
        "points": len(every),
        "variants": rows,
        "trends": trends,
        "bounds": bounds,
        "versions": versions(),
        "times": {"training_cpu_s": sum(cpu_s.values()), "pricing_cpu_s": time.process_time() - start, "cpu_s": cpu_s},
    }
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    print(markdown(rows), trend_markdown(trends), sep="\n")
    if grid:
        write_atomic(out / "points.csv", rows_to_csv(grid_rows(of_grid)))
        if rounded := rounded_of(out, of_grid):
            write_atomic(out / "points_bits.csv", rows_to_csv(bits_rows(rounded, of_grid)))


if __name__ == "__main__":
    sys.exit(main())
