"""Tables of the Hamming study: flips against the dense network as it comes, accuracy, energy; means over seeds, 95 % intervals.

A ratio is what the dense network of the same seed flips on the same array and code with its channels as they come, over
what this network flips in its order. Per seed there are two: of the totals of all layers, and the plain mean of the layers'
ratios (a layer that hardly flips any more weighs much there, so the median is given too). `same_order` is against the dense
network in the same order, `energy`'s too: what training adds where reordering is free. Accuracies are of 8-bit integers on the
test part.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from picojoule.deform_tables import interval
from picojoule.hamming_measure import CODES, variants
from picojoule.hamming_points import ARMS, ARRAY, Point

Row = dict[str, Any]
Measured = Mapping[Point, Mapping[str, Any]]

REFERENCE = "dense"
GOAL = 2.85
"""Li et al. (arXiv:2002.05293): datapath energy of MobileNet V2, mean over layers."""


def trained_code(arm: str) -> str:
    """Return the number code that an arm is trained for, and shown in."""
    return str(ARMS[arm].settings.get("number_code", "twos_complement"))


def trained_variant(arm: str) -> str:
    """Return the stream that an arm is trained for."""
    settings = ARMS[arm].settings
    order = "segments" if settings.get("order") == "segments" else "as_is"
    return f"{settings.get('dataflow', 'is')}-{ARRAY}-{trained_code(arm)}-{order}"


def layer_ratios(dense: Mapping[str, Any], mine: Mapping[str, Any], variant: str) -> list[float]:
    """Return how many times fewer bits flip, layer by layer; one that flips none counts as if it flipped one."""
    start = _start(variant)
    return [
        before["flips"][start] / max(1.0, after["flips"][variant])
        for before, after in zip(dense["layers"], mine["layers"], strict=True)
    ]


def total_ratio(dense: Mapping[str, Any], mine: Mapping[str, Any], variant: str) -> float:
    """Return how many times fewer bits flip in all layers together."""
    before, after = _flips(dense, _start(variant)), _flips(mine, variant)
    return before / max(1.0, after)


def same_order_ratio(dense: Mapping[str, Any], mine: Mapping[str, Any], variant: str) -> float:
    """Return how many times fewer bits flip in all layers than in the dense network ordered alike."""
    return _flips(dense, variant) / max(1.0, _flips(mine, variant))


def _flips(measured: Mapping[str, Any], variant: str) -> float:
    return float(sum(layer["flips"][variant] for layer in measured["layers"]))


def _start(variant: str) -> str:
    return variant.rpartition("-")[0] + "-as_is"


def rows_of(measured: Measured, results: Measured) -> list[Row]:
    """Return a row per arm and stream over the seeds that both it and the dense network have; `results` of their training."""
    rows = []
    for arm in ARMS:
        found = {p.seed: m for p, m in measured.items() if p.arm == arm}
        dense = {p.seed: m for p, m in measured.items() if p.arm == REFERENCE and p.seed in found}
        seeds = sorted(dense)
        if not seeds:
            continue
        accuracy = _stated("accuracy", [100 * found[s]["test"]["hardware"] for s in seeds])
        change = [100 * (found[s]["test"]["hardware"] - dense[s]["test"]["hardware"]) for s in seeds]
        accuracy |= _stated("points", change) | {
            "accuracy_float": _mean(100 * found[s]["test"]["float"] for s in seeds),
            "training_cpu_s": _mean(
                r["times"]["cpu_s"] for p, r in results.items() if p.arm == arm and p.seed in dense
            ),
        }
        for variant in variants():
            layers = [layer_ratios(dense[s], found[s], variant) for s in seeds]
            row: Row = {"arm": arm, "title": ARMS[arm].title, "variant": variant, "seeds": len(seeds), **accuracy}
            row |= _stated("total", [total_ratio(dense[s], found[s], variant) for s in seeds])
            row |= _stated("same_order", [same_order_ratio(dense[s], found[s], variant) for s in seeds])
            row |= _stated("mean", [_mean(of_seed) for of_seed in layers])
            row["median"] = _mean(float(np.median(of_seed)) for of_seed in layers)
            row["geometric"] = _mean(math.exp(_mean(math.log(r) for r in of_seed)) for of_seed in layers)
            row["least"] = min(min(of_seed) for of_seed in layers)
            row["trained_for"] = variant == trained_variant(arm)
            rows.append(row)
    return rows


def layer_rows(measured: Measured, arm: str) -> list[Row]:
    """Return a row per layer of an arm: its sizes and mean ratios of reordering alone and of the arm."""
    variant = trained_variant(arm)
    seeds = [p.seed for p in measured if p.arm == arm]
    of = {(p.arm, p.seed): m for p, m in measured.items()}
    pairs = [(of[REFERENCE, s], of[arm, s]) for s in seeds if (REFERENCE, s) in of]
    rows = []
    for i, layer in enumerate(pairs[0][0]["layers"] if pairs else ()):
        ordered = [layer_ratios(dense, dense, variant)[i] for dense, _ in pairs]
        mine = [layer_ratios(dense, found, variant)[i] for dense, found in pairs]
        flips = _mean(dense["layers"][i]["flips"][_start(variant)] for dense, _ in pairs)
        sizes = {key: layer[key] for key in ("name", "m", "n", "k", "groups")}
        rows.append({**sizes, "flips": flips, "ordered": _mean(ordered), "trained": _mean(mine)})
    return rows


def energy_rows(energies: Measured) -> list[Row]:
    """Return a row per arm and code: energy of the datapath and of all, and their ratios to the dense network as it comes."""
    rows = []
    of = {(p.arm, p.seed): e for p, e in energies.items()}
    for arm in ARMS:
        seeds = [s for a, s in of if a == arm and (REFERENCE, s) in of]
        for code in CODES:
            for order in ("as_is", "segments") if seeds else ():
                row: Row = {"arm": arm, "title": ARMS[arm].title, "code": code, "order": order, "seeds": len(seeds)}
                for key in ("datapath_pj", "total_pj"):
                    pairs = [
                        (of[REFERENCE, s][f"{code}-as_is"][key], of[arm, s][f"{code}-{order}"][key]) for s in seeds
                    ]
                    row[key] = _mean(b for _, b in pairs)
                    row |= _stated(key.replace("_pj", "_ratio"), [a / b for a, b in pairs])
                alike = [of[REFERENCE, s][f"{code}-{order}"]["datapath_pj"] for s in seeds]
                mine = [of[arm, s][f"{code}-{order}"]["datapath_pj"] for s in seeds]
                row |= _stated("datapath_same_order", [a / b for a, b in zip(alike, mine, strict=True)])
                rows.append(row)
    return rows


def _stated(name: str, values: Sequence[float]) -> Row:
    """Return mean and half-width (None of one seed)."""
    mean, half = interval(values)
    return {name: mean, f"{name}_half": None if math.isnan(half) else half}


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
