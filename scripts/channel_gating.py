"""Trains channel-gated networks on Fashion-MNIST (embedded) and prices their real gates on systolic arrays; half a minute.

Results land in runs/channel_gating/: a row per threshold target, array, dataflow and layer. CGNet's accelerator realised 0.86
of what saved operations promise (2.4 times as fast for 2.8 times fewer, ResNet-18 on ImageNet): shown beside, nothing is fitted.
"""

import argparse
import json
from pathlib import Path

from picojoule.accel.systolic.live_work import PUBLISHED_REALISED_SHARE
from picojoule.gating_study import rows, trained
from picojoule.models.data import load
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv

_SHOWN = ("target", "accuracy", "array", "dataflow", "open_gates", "operations_saved", "speed_up", "realised",
          "realised_independent_gates")  # fmt: skip


def _size(text: str) -> tuple[int, int]:
    rows_text, cross, cols_text = text.partition("x")
    if not (cross and rows_text.isdecimal() and cols_text.isdecimal() and int(rows_text) and int(cols_text)):
        raise SystemExit(f"an array is written ROWSxCOLS, such as 16x16, got '{text}'")
    return int(rows_text), int(cols_text)


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--targets", type=float, nargs="+", default=[0.0, 1.0, 2.0], help="of the thresholds, in standard deviations"
    )
    parser.add_argument("--arrays", nargs="+", default=["8x8", "16x16", "32x32", "64x4"], help="rows x columns")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/channel_gating"))
    given = parser.parse_args()
    arrays = [_size(text) for text in given.arrays]
    data = load("fashion-mini")
    made = [
        row
        for target in given.targets
        for row in rows(trained(data, target, epochs=given.epochs, seed=given.seed), arrays)
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    summary = {"rows": made, "published_realised": PUBLISHED_REALISED_SHARE, "seed": given.seed, "versions": versions()}
    write_atomic(given.out / "table.csv", rows_to_csv(made))
    write_atomic(given.out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    print("  ".join(_SHOWN))
    for row in made:
        if row["layer"] == "all gated layers":
            print("  ".join(str(row[key]).rjust(len(key)) for key in _SHOWN))
    print(f"published (CGNet, ResNet-18, its own accelerator): {PUBLISHED_REALISED_SHARE} realised")


if __name__ == "__main__":
    main()
