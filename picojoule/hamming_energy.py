"""Energy of the Hamming study's points on one array, from the flips of their real weights (`datapath_energy: toggles`).

The datapath is what works inside the array: multipliers, adders and registers. All is all: also SRAM, DRAM, vector unit and
leakage, one image. A point's prices are kept beside it; of other constants or another version of the model they are stale, and
made again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picojoule.hamming_measure import CODES, HARDWARE, basis, planned_network
from picojoule.hamming_points import Point
from picojoule.hamming_study import StudySettings, Tell, current, derive
from picojoule.sim.evaluation import versions
from picojoule.sim.ir import Network

if TYPE_CHECKING:
    from picojoule.models.data import Dataset

DATAPATH = ("mac", "register")
"""Components of the bill."""
ORDERS = ("as_is", "segments")


def price_points(out: Path, settings: StudySettings, results: Mapping[Point, Mapping[str, Any]], tell: Tell) -> None:
    """Price the final points that were not yet, or by other constants or another version of the accelerator's model."""
    from picojoule.sim.passes import fold_batch_norm

    def made(point: Point, result: Mapping[str, Any], data: "Dataset") -> dict[str, Any]:
        network = fold_batch_norm(planned_network(out, settings, point, result, data))
        return energies(network) | {"versions": versions()}

    derive(out, settings, results, "energy.json", price_basis(), made, tell)


def priced_of(out: Path, results: Mapping[Point, Mapping[str, Any]]) -> dict[Point, dict[str, Any]]:
    """Return the prices of final points, stale files left out; errors as `hamming_study.current`."""
    return current(out, results, "energy.json", price_basis())


def price_basis() -> dict[str, Any]:
    """Return what a price depends on beside the trained point."""
    from picojoule.sim.technology import constants_hash

    return basis() | {"constants_hash": constants_hash()}


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
