"""Tables of the bit-slice study: means over paired seeds with 95 % intervals, differences to the dense network, and cost ratios.

A ratio is the geometric mean over seeds of what the dense network's converters take over what the method's take (larger is
cheaper), its interval by Student's t on logarithms. Differences of accuracy are in points, paired by seed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from picojoule.bitslice_points import METHODS, Choice, Point
from picojoule.bitslice_pricing import MODELS, AdcPrice, layer_counts, price
from picojoule.compress.bitslice_slices import SLICES
from picojoule.deform_tables import interval
from picojoule.reram.adc_models import AdcModel

Row = dict[str, Any]
Found = Mapping[Point, Mapping[str, Any]]
Chips = Mapping[Point, Mapping[str, float]]
"""What `bitslice_chip.chip_price` says of points."""

_CHIP = ("energy_pj", "adc_pj", "latency_s", "area_mm2")
KINDS = ("lossless", "reduced")
"""Converters that lose nothing, and narrower ones whose clipping costs at most 0.2 points of validation accuracy."""
ACCURACIES = ("float", "8bit", "reduced")
REFERENCE, OURS = "dense", "ours"
RIVALS = ("pruned", "l1", "bl1", "bl1_free_s", "fewer_bits")
"""What ours is compared with, seed by seed."""


def result_rows(results: Found, measured: Found, chosen: Mapping[str, Mapping[str, Choice]], chips: Chips) -> list[Row]:
    """Return a row per trained point: trials with what chose among them, final points with accuracies, bits and prices."""
    rows = []
    for point, found in results.items():
        row: Row = {"network": point.network, "kind": point.kind, "method": point.method, "seed": point.seed}
        row |= {
            "trial": point.trial,
            "val_accuracy": found["val_accuracy"],
            "adc_energy_nj": found["adc_energy_pj"] / 1e3,
        }
        choice = chosen.get(point.network, {}).get(point.method)
        row["chosen"] = point.kind == "trial" and choice is not None and choice.trial == point.trial
        row |= {f"nonzero_b{k}": found["slice_shares"][k] for k in reversed(range(SLICES))}
        row |= {f"lossless_bits_b{k}": found["adc_bits"][k] for k in reversed(range(SLICES))}
        more = measured.get(point)
        row |= {f"reduced_bits_b{k}": more["reduced_bits"][k] if more else None for k in reversed(range(SLICES))}
        for name in ACCURACIES:
            row[f"test_{name}"] = more["test"][name] if more else None
        for kind in KINDS:
            for model in MODELS:
                cost = _price(found, more, kind, model) if more else None
                row[f"{kind}_{model.value}_nj"] = cost.energy_pj / 1e3 if cost else None
                row[f"{kind}_{model.value}_us"] = cost.latency_s * 1e6 if cost else None
                row[f"{kind}_{model.value}_mm2"] = cost.area_um2 / 1e6 if cost else None
        row |= {f"chip_{key}": chips[point][key] if point in chips else None for key in _CHIP}
        rows.append(row)
    return rows


def _price(found: Mapping[str, Any], more: Mapping[str, Any], kind: str, model: AdcModel) -> AdcPrice | None:
    bits = found["adc_bits"] if kind == "lossless" else more["reduced_bits"]
    return price(layer_counts(more["layers"]), bits, model)


def method_rows(results: Found, measured: Found, chosen: Mapping[str, Mapping[str, Choice]], chips: Chips) -> list[Row]:
    """Return a row per network and method over the seeds that were measured."""
    rows = []
    for network, of_network in chosen.items():
        every = {(p.method, p.seed): (results[p], measured[p]) for p in measured if p.network == network}
        for name, method in METHODS.items():
            mine = {s: v for (m, s), v in every.items() if m == name}
            if not mine:
                continue
            row: Row = {"network": network, "method": name, "title": method.title, "seeds": len(mine)}
            row |= {"setting": dict(method.trials[of_network[name].trial]), "qualified": of_network[name].qualified}
            row |= _accuracies(mine, {s: v for (m, s), v in every.items() if m == REFERENCE})
            row |= {f"nonzero_b{k}": _mean(f["slice_shares"][k] for f, _ in mine.values()) for k in range(SLICES)}
            row |= {f"lossless_bits_b{k}": _mean(f["adc_bits"][k] for f, _ in mine.values()) for k in range(SLICES)}
            row |= {f"reduced_bits_b{k}": _mean(m["reduced_bits"][k] for _, m in mine.values()) for k in range(SLICES)}
            for rival in (REFERENCE, *(RIVALS if name == OURS else ())):
                other = {s: v for (m, s), v in every.items() if m == rival}
                row |= {
                    f"vs_{rival}_{key}": value for key, value in {**_ratios(mine, other), **_gap(mine, other)}.items()
                }
            row |= _absolute(mine)
            row |= _chip_ratios(network, name, list(mine), chips)
            rows.append(row)
    return rows


Points = Mapping[int, tuple[Mapping[str, Any], Mapping[str, Any]]]
"""By seed: what training and what measuring found."""


def _accuracies(mine: Points, dense: Points) -> Row:
    row: Row = {}
    seeds = sorted(set(mine) & set(dense))
    for name in ACCURACIES:
        mean, half = interval([100 * m["test"][name] for _, m in mine.values()])
        row |= {f"test_{name}": mean, f"test_{name}_half": _known(half)}
        mean, half = interval([100 * (mine[s][1]["test"][name] - dense[s][1]["test"]["8bit"]) for s in seeds])
        row |= {f"drop_{name}": mean, f"drop_{name}_half": _known(half)}
    return row


def _gap(mine: Points, other: Points) -> Row:
    """Return how much more accurate the 8-bit network is, in points, paired by seed."""
    gaps = [100 * (mine[s][1]["test"]["8bit"] - other[s][1]["test"]["8bit"]) for s in sorted(set(mine) & set(other))]
    mean, half = interval(gaps) if gaps else (None, math.nan)
    return {"8bit_points": mean, "8bit_points_half": _known(half)}


def _ratios(mine: Points, other: Points) -> Row:
    row: Row = {}
    seeds = sorted(set(mine) & set(other))
    for kind in KINDS:
        for model in MODELS:
            costs = [(_price(*other[s], kind, model), _price(*mine[s], kind, model)) for s in seeds]
            for quantity in ("energy_pj", "own_width_energy_pj", "latency_s", "area_um2"):
                if quantity.startswith("own_width") and kind == "reduced":
                    continue
                pairs = [(getattr(a, quantity), getattr(b, quantity)) for a, b in costs if a and b]
                whole = [(a, b) for a, b in pairs if a and b]
                key = f"{kind}_{model.value}_{quantity}"
                found = _geometric(whole if len(whole) == len(seeds) else [])
                row |= {f"{key}{ending}": value for ending, value in found.items()}
    return row


def _chip_ratios(network: str, method: str, seeds: Sequence[int], chips: Chips) -> Row:
    of = {(p.method, p.seed): c for p, c in chips.items() if p.network == network and p.kind == "final"}
    row: Row = {}
    for key in _CHIP:
        pairs = [(of.get((REFERENCE, s)), of.get((method, s))) for s in seeds]
        row |= {
            f"vs_dense_chip_{key}{k}": v for k, v in _geometric([(a[key], b[key]) for a, b in pairs if a and b]).items()
        }
        mine = [b[key] for _, b in pairs if b]
        row[f"chip_{key}"] = _mean(mine) if mine else None
    return row


def _geometric(pairs: Sequence[tuple[float, float]]) -> Row:
    """Return {"": mean, "_low", "_high"} of ratios a / b; None without any."""
    logs = [math.log(a / b) for a, b in pairs if a and b]
    row: Row = {"": None, "_low": None, "_high": None}
    if logs:
        mean, half = interval(logs)
        row[""] = math.exp(mean)
        if not math.isnan(half):
            row |= {"_low": math.exp(mean - half), "_high": math.exp(mean + half)}
    return row


def _absolute(mine: Points) -> Row:
    row: Row = {}
    for kind in KINDS:
        for model in MODELS:
            costs = [_price(*v, kind, model) for v in mine.values()]
            known = [c for c in costs if c is not None]
            whole = len(known) == len(costs)
            row[f"{kind}_{model.value}_nj"] = _mean(c.energy_pj / 1e3 for c in known) if whole else None
            row[f"{kind}_{model.value}_us"] = _mean(c.latency_s * 1e6 for c in known) if whole else None
            row[f"{kind}_{model.value}_mm2"] = _mean(c.area_um2 / 1e6 for c in known) if whole else None
    return row


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
