"""What the demo adds on systolic arrays: a searched mapping, values kept on chip, energy from the bits that flip, better arrays.

Extra figures of a variant that is already priced and measured; all of them take a second or two, so nothing is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from picojoule.activations import collect_activations
from picojoule.api import sweep
from picojoule.models.data import load
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.sim.report import Report
from picojoule.variants import Recipe, Variant
from picojoule.variants_crossbar import network_of_variant

X = "energy_pj_per_sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicRecipe:
    """What is looked at: the array, and the sizes, dataflows and memories among which a better one is sought."""

    target: str = "edge-16x16"
    space: Mapping[str, list[Any]] = field(
        default_factory=lambda: {
            "rows": [4, 8, 12, 16, 24, 32, 48, 64],
            "cols": [4, 8, 12, 16, 24, 32, 48, 64],
            "dataflow": ["os", "ws", "is"],
            "ifmap_sram_kib": [4.0, 8.0, 16.0, 32.0, 64.0],
            "filter_sram_kib": [4.0, 8.0, 16.0, 32.0, 64.0, 128.0],
            "ofmap_sram_kib": [4.0, 8.0, 16.0, 32.0, 64.0],
        }
    )


def systolic_figures(recipe: Recipe, variant: Variant, folder: Path, systolic: SystolicRecipe) -> dict[str, Any]:
    """Return energies, pJ per sample, of a variant on the array as it is, improved step by step, and on a better array.

    `searched`: mapping searched; `kept`: values kept on chip, default mapping; `both`: the better by energy x latency of all
    searched and of values kept with only the layers searched that keep none (the two do not add up); `toggles`: the plain array
    with MACs priced by the bits that flip in calibration data (`mac_average`, `mac_toggles`: the MACs alone); `lost`: shares of
    slots by cause; `best`: the design of least energy among all of the space that is no slower and no larger. The variant must
    be made already.
    """
    data = load(recipe.data)
    network = network_of_variant(recipe, variant, folder, data)
    plain = _report(network, systolic.target, {}, recipe.seed)
    toggling = load_hardware(systolic.target, {"datapath_energy": "toggles"})
    flips = toggling.evaluate(network, activations=collect_activations(network, toggling, data), seed=recipe.seed)
    return {
        X: plain.totals[X],
        "latency_s": plain.totals["latency_s"],
        "searched": _report(network, systolic.target, {}, recipe.seed, "search").totals[X],
        "kept": _report(network, systolic.target, {"keep_on_chip": True}, recipe.seed).totals[X],
        "both": _report(network, systolic.target, {"keep_on_chip": True}, recipe.seed, "search").totals[X],
        "toggles": flips.totals[X],
        "mac_average": _macs(plain),
        "mac_toggles": _macs(flips),
        "lost": slots_by_cause(plain),
        "best": best_array(network, plain, systolic),
    }


def _report(network: Network, target: str, keys: Mapping[str, Any], seed: int, mapping: str = "default") -> Report:
    return load_hardware(target, keys).evaluate(network, mapping=mapping, seed=seed)


def _macs(report: Report) -> float:
    return sum(line.pj for layer in report.layers for line in layer.energy if line.component == "mac")


def slots_by_cause(report: Report) -> dict[str, float]:
    """Return the shares of the array's PE x cycle slots that multiply (`useful`) and that each cause takes; they add up to 1."""
    total: dict[str, float] = {}
    layers = [layer for layer in report.layers if layer.unit == "array"]
    cycles = sum(layer.latency_cycles for layer in layers)
    for layer in layers:
        for cause, share in {"useful": layer.utilization or 0.0, **layer.utilization_lost}.items():
            total[cause] = total.get(cause, 0.0) + share * layer.latency_cycles / cycles
    return total


def best_array(network: Network, plain: Report, systolic: SystolicRecipe) -> dict[str, Any]:
    """Return the design of least energy that is no slower and no larger than the one given, and how many there are."""
    table = sweep(network, systolic.target, systolic.space)
    fits = (table["latency_s"] <= plain.totals["latency_s"]) & (table["area_mm2"] <= plain.totals["area_mm2"])
    found: dict[str, Any] = {"designs": len(table), "no_worse": int(fits.sum())}
    if fits.any():
        place = int(np.nanargmin(table[X].where(fits).to_numpy(dtype=np.float64)))
        row = table.iloc[place]
        found |= {key: _plain(row[key]) for key in (*systolic.space, X, "latency_s", "area_mm2")}
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def shown_systolic(name: str, figures: Mapping[str, Any]) -> dict[str, str]:
    """Return a variant's figures as a row for people."""
    best = figures["best"]
    array = f"{best['rows']} x {best['cols']} {best['dataflow']}" if X in best else "none"
    return {
        "variant": name,
        "energy µJ": f"{figures[X] * 1e-6:.3g}",
        "mapping searched": f"{figures['searched'] * 1e-6:.3g}",
        "kept on chip": f"{figures['kept'] * 1e-6:.3g}",
        "better of both": f"{figures['both'] * 1e-6:.3g}",
        "MACs by real bits": f"{figures['mac_toggles'] / figures['mac_average']:.0%} of average",
        "slots multiplying": f"{figures['lost']['useful']:.0%}",
        "best array, no slower, no larger": f"{array}: {best[X] * 1e-6:.3g}" if X in best else array,
    }
