"""A million designs of one network, their front, and where the cycles, energy and slots of another go on two arrays.

Writes sweep.json (time, memory, versions), front.csv, front.png and layers.png below --out, and with --docs the two figures
into docs/.
"""

import argparse
import json
import platform
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import picojoule as pj
from picojoule.dominance import non_dominated
from picojoule.sim.errors import PicojouleError
from picojoule.sim.files import write_atomic
from picojoule.sim.report_plots import save
from picojoule.systolic_figures import plot_front3, plot_layers

OBJECTIVES = ("latency_s", "energy_pj_per_sample", "area_mm2")
BASE = "edge-32x32"
SPACE: dict[str, list[Any]] = {
    "rows": [4, 8, 12, 16, 24, 32, 48, 64, 96, 128],
    "cols": [4, 8, 12, 16, 24, 32, 48, 64, 96, 128],
    "dataflow": ["os", "ws", "is"],
    "ifmap_sram_kib": [16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
    "filter_sram_kib": [16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
    "ofmap_sram_kib": [16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
    "dram_gib_per_s": [2.0, 4.0, 8.0, 16.0],
    "clock_mhz": [200.0, 400.0, 600.0, 800.0],
}
"""1,036,800 designs: sizes, dataflows, memories, bandwidth, clock."""
QUICK = {"rows": [8, 32], "cols": [8, 32], "dataflow": ["os", "ws", "is"], "dram_gib_per_s": [2.0, 16.0]}
ARRAYS = (
    ("16 x 16, output stationary", {"rows": 16, "cols": 16, "dataflow": "os"}),
    ("32 x 32, weight stationary", {"rows": 32, "cols": 32, "dataflow": "ws"}),
)


def main() -> int:
    """Sweep, draw, write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18", help="whose designs are swept (resnet18)")
    parser.add_argument("--layers-of", default="mobilenet-v2", help="whose layers are drawn (mobilenet-v2)")
    parser.add_argument("--out", type=Path, default=Path("runs/systolic"))
    parser.add_argument("--quick", action="store_true", help="24 designs: shows that all parts work")
    parser.add_argument("--docs", action="store_true", help="copy the figures into docs/")
    given = parser.parse_args()
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        found = sweep(given.network, QUICK if given.quick else SPACE, given.out)
        draw_layers(given.layers_of, given.out)
    except PicojouleError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found, indent=1))
    if given.docs:
        docs = Path(__file__).resolve().parent.parent / "docs"
        shutil.copy(given.out / "front.png", docs / "systolic-front.png")
        shutil.copy(given.out / "layers.png", docs / "systolic-layers.png")
    return 0


def sweep(name: str, space: dict[str, list[Any]], out: Path) -> dict[str, Any]:
    """Price all combinations, write the front and its figure; returns what it took."""
    network = pj.load(name)
    pj.sweep(network, BASE, {"rows": [16], "cols": [16]})  # imports, and the network's own sums
    before = peak_mib()
    start, wall = time.process_time(), time.perf_counter()
    table = pj.sweep(network, BASE, space)
    spent, waited = time.process_time() - start, time.perf_counter() - wall
    after = peak_mib()
    points = {metric: table[metric].to_numpy(dtype=np.float64) for metric in OBJECTIVES}
    front = non_dominated(np.column_stack([points[m] for m in OBJECTIVES]))
    title = f"{name}: {len(table):,} designs of a systolic array, priced in {spent:.1f} s on one core"
    save(plot_front3(points, front, title), out / "front.png")
    write_atomic(out / "front.csv", table[front].sort_values("latency_s").to_csv(index=False))
    found = {
        "network": name,
        "designs": len(table),
        "infeasible": int((table["infeasible"] != "").sum()),
        "cpu_s": round(spent, 2),
        "wall_s": round(waited, 2),
        "designs_per_cpu_s": round(len(table) / spent),
        "peak_mib_before": round(before),
        "peak_mib": round(after),
        "on_front": int(front.sum()),
        "picojoule": pj.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    write_atomic(out / "sweep.json", json.dumps(found, indent=1))
    return found


def peak_mib() -> float:
    """Return the most memory this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw_layers(name: str, out: Path) -> None:
    """Draw a network's layers on the two arrays."""
    network = pj.load(name)
    reports = [pj.evaluate(network, BASE, overrides=keys) for _, keys in ARRAYS]
    save(plot_layers(reports, [title for title, _ in ARRAYS]), out / "layers.png")


if __name__ == "__main__":
    sys.exit(main())
