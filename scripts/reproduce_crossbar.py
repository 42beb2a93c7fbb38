"""A trained network on ReRAM crossbars: what converters and devices do to its accuracy, and what it costs.

Trains resnet20 on Fashion-MNIST once and measures it under crossbar arithmetic: ADC bits by encoding and range, bits that the
weights need, devices (mean over simulated chips), hardware-aware fine-tuning; prices all of it under four ADC models. Writes
adc, needed, bits, parts, policies, devices, recovery (.csv), tables.md, figures (.png), summary.json. Work is done in rounds of
250 images: interrupted or stopped early (--rounds), it goes on where it was, and tables show what is there.

The full data set is Debian's: `apt-get install dataset-fashion-mnist`, then --data idx:/usr/share/datasets/fashion-mnist.
"""

import argparse
import sys
from pathlib import Path

from picojoule.crossbar_designs import LOSSLESS, Design, all_designs
from picojoule.crossbar_points import bench, run_points
from picojoule.crossbar_recovered import QUICK as QUICK_RECOVERY
from picojoule.crossbar_recovered import SIZES, recovered
from picojoule.crossbar_report import write_all
from picojoule.crossbar_study import StudySettings, open_folder
from picojoule.sim.errors import PicojouleError

QUICK = {"network": "lenet5", "epochs": 1, "images": 40, "chips": 2, "chip_images": 40}
QUICK_DESIGNS = (LOSSLESS, "offset-exact-6", "differential-calibrated-5", "device-stuck_off-0.01")


def main() -> int:
    """Train, measure, write; 1 if a point failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mini", help="data set (fashion-mini)")
    parser.add_argument("--out", type=Path, help="runs/crossbar, or runs/crossbar-quick with --quick, if not given")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--rounds", type=int, default=1000, help="stop after so many rounds of 250 images; 0 only writes"
    )
    parser.add_argument("--quick", action="store_true", help="a minute's run that shows that all parts work; no result")
    parser.add_argument("--no-recovery", action="store_true", help="leave out fine-tuning with the hardware")
    given = parser.parse_args()
    if given.jobs < 1 or given.rounds < 0:
        parser.error("--jobs must be at least 1, --rounds at least 0")
    out = given.out or Path("runs/crossbar-quick" if given.quick else "runs/crossbar")
    settings = StudySettings(data=given.data, **(QUICK if given.quick else {}))
    try:
        open_folder(out, settings)
        bench(str(out), settings)  # trains, if need be
        problems = run_points(out, settings, designs(given.quick), jobs=given.jobs, rounds=given.rounds, tell=tell)
        sizes = QUICK_RECOVERY if given.quick else SIZES
        recovery = [] if given.no_recovery else recovered(out, settings.data, sizes, tell)
        print(write_all(out, settings, recovery))
    except PicojouleError as error:
        print(error, file=sys.stderr)
        return 1
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def designs(quick: bool) -> list[Design]:
    """Return what is measured."""
    return [d for d in all_designs() if not quick or d.name in QUICK_DESIGNS]


def tell(text: str) -> None:
    """Say how far we are."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
