"""Trains a MobileNet V2 for few bit flips on weight ports: dense, reordered, fewer bits, Hamming-aware; with paired seeds.

The price of a flip is chosen on a seed of its own by validation images; every arm is then trained with each seed, its flips are
counted from the integers that a systolic array holds, and it is measured once on the 10,000 test images in 8-bit integers. Writes
results.csv, layers.csv, energy.csv, table.md, hamming.png and summary.json. Interrupted, it goes on where it was; --tables-only
trains nothing and writes tables of what is there.
"""

import argparse
import json
import sys
from pathlib import Path

from picojoule.debian_fashion import default_data
from picojoule.hamming_document import markdown, with_tables
from picojoule.hamming_energy import price_points, priced_of
from picojoule.hamming_figure import plot_study
from picojoule.hamming_measure import HARDWARE, measure_points, measured_of
from picojoule.hamming_points import ARMS, TRIALS, TUNING_SEED, choose, trial_points
from picojoule.hamming_study import StudySettings, chosen_finals, results_of, run_study
from picojoule.hamming_tables import energy_rows, layer_rows, rows_of
from picojoule.sim.errors import PicojouleError
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import save

QUICK = {"network": "dscnn-fashion", "data": "fashion-mini", "limit": 300, "base_epochs": 1, "epochs": 1}
SHOWN = "ordered"


def main() -> int:
    """Train, measure, price, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="runs/hamming, or runs/hamming-quick with --quick, if not given")
    parser.add_argument("--data", help="idx:DIR; the Debian package dataset-fashion-mnist if not given")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of every arm, after the floating-point training")
    parser.add_argument("--quick", action="store_true", help="a minute's run that shows that all parts work; no result")
    parser.add_argument("--train-only", action="store_true", help="leave out test part, prices, tables and figure")
    parser.add_argument("--tables-only", action="store_true", help="train nothing")
    parser.add_argument(
        "--document", type=Path, help="a Markdown file whose tables are replaced, and the figure beside it"
    )
    given = parser.parse_args()
    if given.seeds < 1 or (given.epochs is not None and given.epochs < 1):
        parser.error("--seeds and --epochs must be at least 1")
    out = given.out or Path("runs/hamming-quick" if given.quick else "runs/hamming")
    changes = dict(QUICK) if given.quick else {"data": given.data or default_data()}
    changes |= {"epochs": given.epochs} if given.epochs else {}
    try:
        settings = StudySettings.model_validate(changes)
        if not given.tables_only:
            run_study(out, settings, given.seeds, tell)
        if not given.train_only:
            write_tables(out, settings, given.seeds, given.document)
    except PicojouleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def tell(text: str) -> None:
    """Say how far we are."""
    print(text, flush=True)


def write_tables(out: Path, settings: StudySettings, seeds: int, document: Path | None) -> None:
    """Measure and price the final points that were not yet, and write every table and the figure."""
    finals = chosen_finals(out, settings, seeds)
    results = results_of(out, settings, finals)
    measure_points(out, settings, results, tell)
    price_points(out, settings, results, tell)
    measured, priced = measured_of(out, results), priced_of(out, results)
    rows, layers, energies = rows_of(measured, results), layer_rows(measured, SHOWN), energy_rows(priced)
    for name, table in (("results", rows), ("layers", layers), ("energy", energies)):
        write_atomic(out / f"{name}.csv", rows_to_csv(table))
    text = markdown(rows, layers, energies)
    write_atomic(out / "table.md", text)
    save(plot_study(measured, rows, layers).axes[0], out / "hamming.png")
    if document is not None:
        write_atomic(document, with_tables(document.read_text(), text))
        write_atomic(document.with_suffix(".png"), (out / "hamming.png").read_bytes())
    trials = results_of(out, settings, trial_points())
    trial, good = choose(trials)
    summary = {
        "settings": settings.model_dump(mode="json"),
        "data_digest": next((r["data_digest"] for r in results.values()), None),
        "hardware": HARDWARE,
        "arms": {name: dict(arm.settings) for name, arm in ARMS.items()},
        "trials": [
            {
                **dict(TRIALS[p.trial] if p.trial is not None else {}),
                "val_accuracy": r["val_accuracy"],
                "flips": r["flips"],
            }
            for p, r in trials.items()
        ],
        "chosen": {**TRIALS[trial], "accurate_enough": good},
        "tuning_seed": TUNING_SEED,
        "seeds": list(range(seeds)),
        "finals_measured": len(measured),
        "finals_wanted": len(finals),
        "rows": rows,
        "layers": layers,
        "energies": energies,
        "versions": versions(),
        "times": {"training_cpu_s": sum(r["times"]["cpu_s"] for r in [*results.values(), *trials.values()])},
    }
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
