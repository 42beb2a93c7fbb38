"""Energy of the Hamming study's points on one array, from the flips of their real weights (`datapath_energy: toggles`).

The datapath is what works inside the array: multipliers, adders and registers. All is all: also SRAM, DRAM, vector unit and
leakage, one image. A point's prices are kept beside it and belong to the versions they name.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from picojoule.hamming_measure import CODES, HARDWARE, planned_network
from picojoule.hamming_points import Point
from picojoule.hamming_study import StudySettings, Tell, data_of, key_of, point_file, read_points
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.ir import Network

DATAPATH = ("mac", "register")
"""Components of the bill."""
ORDERS = ("as_is", "segments")


def price_points(out: Path, settings: StudySettings, results: Mapping[Point, Mapping[str, Any]], tell: Tell) -> None:
    """Price the final points that were not yet."""
    from picojoule.sim.passes import fold_batch_norm

    finals = [p for p in results if p.kind == "final"]
    done, data = priced_of(out, settings, finals), None
    for point in finals:
        if point in done:
            continue
        data = data or data_of(settings)
        network = fold_batch_norm(planned_network(out, settings, point, results[point], data))
        found = energies(network) | {"key": key_of(settings, point), "versions": versions()}
        text = json.dumps(found, indent=1, sort_keys=True, allow_nan=False) + "\n"
        write_atomic(point_file(out, point, "energy.json"), text)
        tell(f"{point.name}: priced")


def priced_of(out: Path, settings: StudySettings, points: Iterable[Point]) -> dict[Point, dict[str, Any]]:
    """Return the prices of points; errors as `hamming_study.results_of`."""
    return read_points(out, settings, points, "energy.json")


def energies(network: Network) -> dict[str, Any]:
    """Return energy of an image on the input-stationary array by code and order, pJ: datapath, all, and every component."""
    from picojoule.sim.hardware import load_hardware

    found: dict[str, Any] = {}
    for code in CODES:
        for order in ORDERS:
            changes = {"dataflow": "is", "datapath_energy": "toggles", "number_code": code, "weight_order": order}
            report = load_hardware(HARDWARE, changes).evaluate(network)
            parts: dict[str, float] = {}
            for layer in report.layers:
                for item in layer.energy:
                    parts[item.component] = parts.get(item.component, 0.0) + item.pj
            datapath = sum(parts.get(name, 0.0) for name in DATAPATH)
            total = float(report.totals["energy_pj"])
            found[f"{code}-{order}"] = {"datapath_pj": datapath, "total_pj": total, "components": parts}
    return found
