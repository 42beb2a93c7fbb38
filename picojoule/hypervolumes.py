"""Hypervolume: how much of the space up to a reference point a set of costs dominates, exactly; every objective to be small.

One objective: a length. Two: a staircase. Three: a sweep along the third over a growing staircase, O(n log n) but for the
insertions (Fonseca, Paquete and Lopez-Ibanez 2006, "An improved dimension-sweep algorithm for the hypervolume indicator").
Four to six: the same in slices along the last (HSO; While et al. 2006, "A faster algorithm for calculating hypervolume"),
in a time that each further objective multiplies by the length of the front. Rows with a NaN, and rows that are not better
than the reference in every objective, contribute nothing.
"""

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike

from picojoule.dominance import Floats, as_costs, non_dominated
from picojoule.sim.errors import InputError

__all__ = ["hypervolume", "hypervolume_history", "reference_point"]

_MOST_OBJECTIVES = 6
_MARGIN = 0.1


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume between `reference` [objectives] and the rows of `costs` [points, objectives] that are better.

    Raises:
        InputError: for more than six objectives, a cost of -inf, or a reference that is not one finite number for each.

    """
    values, limit = _checked(costs, reference)
    return _volume(_front_within(values, limit), limit)


def hypervolume_history(costs: ArrayLike, reference: ArrayLike) -> Floats:
    """Return the hypervolume after each row of `costs` [points, objectives], in their order: [points], never falling.

    A point that joins the front adds what it alone dominates, so the last value equals `hypervolume` up to rounding. InputError
    as there.
    """
    values, limit = _checked(costs, reference)
    gains = np.zeros(len(values))
    front = np.empty((0, len(limit)))
    inside = np.flatnonzero((values < limit).all(axis=1))
    stairs = _Staircase(limit) if len(limit) == 2 else None
    for index in inside:
        point = values[index]
        if stairs is not None:
            gains[index] = stairs.insert(float(point[0]), float(point[1]))
        elif not (front <= point).all(axis=1).any():
            shared = _front_within(np.maximum(front, point), limit)
            gains[index] = max(0.0, float(np.prod(limit - point)) - _volume(shared, limit))
            front = np.vstack((front[(front < point).any(axis=1)], point))
    return np.cumsum(gains)


def reference_point(costs: ArrayLike) -> Floats:
    """Return a reference for hypervolumes of `costs` [points, objectives]: strictly worse than every finite value.

    Per objective, the worst finite value of all rows without a NaN plus a tenth of the front's range; where the front has none, a
    tenth of that worst value's size, or 0.1 if it is 0. So bad points decide where the volume ends and the front how much beyond
    (Ishibuchi et al. 2018, "How to specify a reference point in hypervolume calculation for fair performance comparison").
    InputError if an objective has no finite value.
    """
    values = as_costs(costs)
    values = values[~np.isnan(values).any(axis=1)]
    front = values[non_dominated(values)]
    reference = np.empty(values.shape[1])
    for column in range(values.shape[1]):
        finite = values[np.isfinite(values[:, column]), column]
        if not finite.size:
            raise InputError(f"objective {column} of the costs has no finite value, so a reference point has no place")
        worst = finite.max()
        shown = front[np.isfinite(front[:, column]), column]
        with np.errstate(over="ignore"):
            span = shown.max() - shown.min() if shown.size else 0.0
            if span == 0:
                span = abs(worst) or 1.0
            reference[column] = max(worst + _MARGIN * span, np.nextafter(worst, np.inf))
    return reference


def _checked(costs: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    limit = np.asarray(reference, dtype=np.float64)
    if limit.ndim != 1 or not limit.size or not np.isfinite(limit).all():
        raise InputError(f"the reference point must be one finite number for each objective, got {limit.tolist()}")
    if len(limit) > _MOST_OBJECTIVES:
        raise InputError(
            f"the hypervolume of {len(limit)} objectives takes too long; give at most {_MOST_OBJECTIVES} objectives"
        )
    values = as_costs(costs, len(limit))
    if np.isneginf(values).any():
        raise InputError("a cost of -inf dominates an infinite volume; give finite costs")
    return values, limit


def _front_within(values: Floats, limit: Floats) -> Floats:
    inside = values[(values < limit).all(axis=1)]
    return inside[non_dominated(inside)]


def _volume(front: Floats, limit: Floats) -> float:
    """Return the hypervolume of rows that are all within the limit (dominated ones do no harm)."""
    if not len(front):
        return 0.0
    if len(limit) == 1:
        return float(limit[0] - front.min())
    if len(limit) == 2:
        stairs = _Staircase(limit)
        return sum(stairs.insert(x, y) for x, y in front.tolist())
    ordered = front[np.argsort(front[:, -1], kind="stable")]
    heights = np.diff(ordered[:, -1], append=limit[-1]).tolist()
    if len(limit) == 3:
        stairs = _Staircase(limit[:2])
        area = volume = 0.0
        for (x, y, _), height in zip(ordered.tolist(), heights, strict=True):
            area += stairs.insert(x, y)
            volume += area * height
        return volume
    volume, below, base = 0.0, np.empty((0, len(limit) - 1)), 0.0
    for point, height in zip(ordered[:, :-1], heights, strict=True):
        if not (below <= point).all(axis=1).any():
            below = np.vstack((below[(below < point).any(axis=1)], point))
            base = _volume(below, limit[:-1])
        volume += base * height
    return volume


class _Staircase:
    """The front of points in the plane within a limit: x grows, y falls; a stair may have no width."""

    def __init__(self, limit: Floats) -> None:
        self._xs = [-np.inf, float(limit[0])]
        self._ys = [float(limit[1]), -np.inf]

    def insert(self, x: float, y: float) -> float:
        """Take in a point better than the limit; return the area it adds."""
        xs, ys = self._xs, self._ys
        first = bisect_left(xs, x)  # the first stair not left of the point
        height = ys[first - 1]
        if height <= y:
            return 0.0
        added, last, left = 0.0, first, x
        while ys[last] >= y:  # stairs that the point replaces
            added += (xs[last] - left) * (height - y)
            left, height = xs[last], ys[last]
            last += 1
        added += (xs[last] - left) * (height - y)
        xs[first:last], ys[first:last] = [x], [y]
        return added
