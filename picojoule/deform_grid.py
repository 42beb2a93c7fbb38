"""Trained detectors as points for a co-design search: rows that `picojoule search` reads as `points:`.

Every row is the mean over the same seeds, those that all rows have, so that rows differ by their networks alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from picojoule.deform_points import QUANTIZED
from picojoule.deform_study import ROUNDED_BITS
from picojoule.deform_tables import LEVEL, Results, Row, bound_of, order
from picojoule.sim.errors import InputError

Key = tuple[str, float, float | None]


def shared_seeds(results: Results) -> frozenset[int]:
    """Return the seeds that every (variant, width, bound) has.

    Raises:
        InputError: if there is none.

    """
    groups: dict[Key, set[int]] = {}
    for point in results:
        groups.setdefault((point.variant, point.width, bound_of(point)), set()).add(point.seed)
    shared = frozenset.intersection(*(frozenset(g) for g in groups.values())) if groups else frozenset()
    if not shared:
        raise InputError("the trained points of the grid have no seed in common; train them all (--grid) first")
    return shared


def grid_rows(results: Results) -> list[Row]:
    """Return a row per (variant, width, bound) for a co-design search; the bound of a variant that has none is blank.

    `accuracy` is the mean validation AP50. Two seeds say little about their own spread, so the intervals take the spread of
    seeds pooled over all points. Errors are those of `shared_seeds`.
    """
    seeds = shared_seeds(results)
    groups: dict[Key, list[Mapping[str, Any]]] = {}
    for point, found in sorted(results.items(), key=lambda item: order(item[0])):
        if point.seed in seeds:
            groups.setdefault((point.variant, point.width, bound_of(point)), []).append(found)
    half = {part: _pooled([[f[part]["ap50"] for f in g] for g in groups.values()]) for part in ("val", "test")}
    rows = []
    for (variant, width, bound), trained in groups.items():
        row: Row = {"network.variant": variant, "network.width": width, "network.bound": bound}
        row |= {"trained_weight_bits": 4 if variant in QUANTIZED else 32, "metric": "val AP50"}
        for part, name, stem in (("val", "accuracy", "accuracy"), ("test", "accuracy_test", "test")):
            mean = float(np.mean([f[part]["ap50"] for f in trained]))
            row[name] = mean
            if (away := half[part](len(trained))) is not None:
                row |= {f"{stem}_low": max(0.0, mean - away), f"{stem}_high": min(1.0, mean + away)}
        rows.append(row | {"seeds": len(trained)})
    return rows


def bits_rows(rounded: Results, results: Results) -> list[Row]:
    """Return a row per (variant, width, bound, weight bits), as `grid_rows`: floating-point networks rounded without fine-tuning.

    Networks fine-tuned at 4 bits stand there too, with no bits: wider weights would hold theirs as well.
    """
    measured = {p: f for p, f in results.items() if p in rounded or p.base is not None}
    seeds = shared_seeds(measured)
    kept = {p: f for p, f in measured.items() if p.seed in seeds}
    rows = []
    for bits in ROUNDED_BITS:
        for row in grid_rows({p: rounded[p][f"w{bits}a8"] for p in kept if p.base is None}):
            rows.append(row | {"network.weight_bits": bits})
    tuned = {p: f for p, f in kept.items() if p.base is not None}
    return rows + (grid_rows(tuned) if tuned else [])


def _pooled(groups: Sequence[Sequence[float]]) -> Callable[[int], float | None]:
    """Return the half-width of a mean's interval as a function of how many seeds it has; None where no group has two."""
    freedom = sum(len(g) - 1 for g in groups)
    if freedom < 1:
        return lambda seeds: None
    spread = math.sqrt(sum(float(np.square(np.asarray(g) - np.mean(g)).sum()) for g in groups) / freedom)
    factor = float(student.ppf((1 + LEVEL) / 2, freedom)) * spread
    return lambda seeds: factor / math.sqrt(seeds)
