"""Trains networks for narrow converters on whole Fashion-MNIST: dense, pruned, L1, bit-slice L1 and ours, with paired seeds.

Every method chooses its setting from six trials by validation images, is then trained with each seed, measured once on the
10,000 test images (8-bit integers, and crossbars whose ADCs are narrower than lossless), and priced under every ADC law. Writes
results.csv, table.csv, table.md, bitslice.png and summary.json. Interrupted, it goes on where it was; --tables-only trains
nothing and writes tables of what is there.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from picojoule.bitslice_chip import HARDWARE, chip_price
from picojoule.bitslice_document import markdown
from picojoule.bitslice_figure import plot_study
from picojoule.bitslice_measure import measure_points, measured_of
from picojoule.bitslice_networks import NETWORKS
from picojoule.bitslice_points import METHODS, TUNING_SEED, final_points, trial_points
from picojoule.bitslice_study import StudySettings, choices, point_file, results_of, run_study, trials_of
from picojoule.bitslice_tables import method_rows, result_rows
from picojoule.debian_fashion import default_data
from picojoule.sim.errors import PicojouleError
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import save

QUICK = {"limit": 400, "mlp_pretrain_epochs": 1, "mlp_epochs": 1, "cnn_pretrain_epochs": 1, "cnn_epochs": 1}


def main() -> int:
    """Train, measure, price, write; 1 if a point failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="runs/bitslice, or runs/bitslice-quick with --quick, if not given")
    parser.add_argument("--data", help="idx:DIR; the Debian package dataset-fashion-mnist if not given")
    parser.add_argument("--network", choices=[*NETWORKS, "both"], default="both")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a minute's run that shows that all parts work; no result")
    parser.add_argument("--train-only", action="store_true", help="leave out test part, prices, tables and figure")
    parser.add_argument("--tables-only", action="store_true", help="train and measure nothing")
    given = parser.parse_args()
    if given.seeds < 1 or given.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")
    out = given.out or Path("runs/bitslice-quick" if given.quick else "runs/bitslice")
    networks = NETWORKS if given.network == "both" else (given.network,)
    problems: list[str] = []
    try:
        settings = StudySettings(data=given.data or default_data(), **(QUICK if given.quick else {}))
        if not given.tables_only:
            problems = run_study(out, settings, networks, seeds=given.seeds, jobs=given.jobs, tell=tell)
        if not given.train_only:
            problems += write_tables(out, settings, networks, given.seeds, 0 if given.tables_only else given.jobs)
    except PicojouleError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def tell(text: str) -> None:
    """Say how far we are."""
    print(text, flush=True)


def write_tables(out: Path, settings: StudySettings, networks: Sequence[str], seeds: int, jobs: int) -> list[str]:
    """Measure final points that were not yet (unless `jobs` is 0), price them, and write every table and the figure."""
    start = time.process_time()
    chosen = {n: choices(out, settings, n) for n in networks}
    finals = [p for n in networks for p in final_points(n, seeds, trials_of(chosen[n]))]
    results = results_of(out, settings, [p for n in networks for p in trial_points(n)] + finals)
    problems = measure_points(out, settings, results, jobs=jobs, tell=tell) if jobs else []
    measured = measured_of(out, settings, finals)
    chips = {
        p: chip_price(p.network, point_file(out, p, "safetensors"), results[p]["exponents"], m["input_steps"])
        for p, m in measured.items()
    }
    points, rows = result_rows(results, measured, chosen, chips), method_rows(results, measured, chosen, chips)
    write_atomic(out / "results.csv", rows_to_csv(points))
    write_atomic(
        out / "table.csv", rows_to_csv([{k: str(v) if k == "setting" else v for k, v in r.items()} for r in rows])
    )
    write_atomic(out / "table.md", markdown(rows))
    save(plot_study(points).axes[0], out / "bitslice.png")
    trained_s = {p.name: r["times"]["cpu_s"] for p, r in results.items()}
    summary = {
        "settings": settings.model_dump(mode="json"),
        "data_digest": next((r["data_digest"] for r in results.values()), None),
        "methods": {name: [dict(t) for t in method.trials] for name, method in METHODS.items()},
        "tuning_seed": TUNING_SEED,
        "seeds": list(range(seeds)),
        "hardware": HARDWARE,
        "finals_measured": len(measured),
        "finals_wanted": len(finals),
        "rows": rows,
        "versions": versions(),
        "times": {
            "training_cpu_s": sum(trained_s.values()),
            "measuring_cpu_s": sum(m["times"]["cpu_s"] for m in measured.values()),
            "tables_cpu_s": time.process_time() - start,
        },
    }
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    print(markdown(rows))
    return problems


if __name__ == "__main__":
    sys.exit(main())
