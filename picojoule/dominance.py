"""Domination among points whose every column is to be small: the front, the fronts behind it, and crowding.

A row dominates another if it is nowhere worse and somewhere better; equal rows do not dominate each other. A row with a NaN
dominates nothing and is on no front; infinities are ordinary values. Large sets are divided and conquered on the first
columns, O(n log^(k-1) n) for k columns (Kung, Luccio and Preparata 1975, "On finding the maxima of a set of vectors"); the
fronts and the crowding distance are those of Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
"""

from bisect import bisect_right

import numpy as np
from numpy.typing import ArrayLike, NDArray

from picojoule.sim.errors import InputError

__all__ = ["as_costs", "crowding_distance", "non_dominated", "non_domination_ranks"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]
Places = NDArray[np.signedinteger]

_BRUTE = 16  # rows of a block that are compared pair by pair
_CHUNK = 1 << 14  # rows filtered at a time, so that a column of them stays in the cache
_MATRIX = 512  # rows whose pairs make one boolean matrix
_MANY = 3000  # rows from which on a filter pays


def as_costs(costs: ArrayLike, columns: int | None = None) -> Floats:
    """Return costs as float64 [points, objectives]; InputError for another shape or number of objectives."""
    values = np.asarray(costs, dtype=np.float64)
    if values.size == 0 and values.ndim < 2:
        values = values.reshape(0, columns or 1)
    if values.ndim != 2 or values.shape[1] < 1:
        raise InputError(f"costs must be an array of points x objectives, got shape {values.shape}")
    if columns is not None and values.shape[1] != columns:
        raise InputError(f"costs have {values.shape[1]} objectives where {columns} are expected")
    return values


def non_dominated(costs: ArrayLike) -> Flags:
    """Return which rows of `costs` [points, objectives], all to be small, no other row dominates.

    A row dominates another if it is nowhere worse and somewhere better; equal rows do not dominate each other. A row with a
    NaN is never on the front.
    """
    values = as_costs(costs)
    keep: Flags = np.zeros(len(values), dtype=np.bool_)
    left = np.flatnonzero(~np.isnan(values).any(axis=1))
    if values.shape[1] == 1:
        keep[left] = values[left, 0] == values[left, 0].min(initial=np.inf)
        return keep
    left = _filtered(values, left)
    points, group = _sorted_groups(values[left])
    keep[left] = ~_beaten(points)[group]
    return keep


def _filtered(values: Floats, left: Indices) -> Indices:
    """Drop rows that the front of a sample dominates, with growing samples, as long as that drops many."""
    sample = 64
    while len(left) > max(_MANY, 4 * sample):
        picked, _ = _sorted_groups(values[left[:: len(left) // sample]])
        front = picked[~_beaten(picked)]
        if 2 * len(front) > len(picked) + 8:
            break
        kept = left[~_dominated_by(front, values[left])]
        if 5 * len(kept) > 4 * len(left):
            break
        left, sample = kept, 4 * sample
    return left


def _dominated_by(front: Floats, points: Floats) -> Flags:
    """Return which points some row of `front` surely dominates: it is nowhere worse and has a smaller sum.

    Rounding keeps the order of sums, though it may make different ones equal; those points are merely not found here.
    """
    found: Flags = np.zeros(len(points), dtype=np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        front_sums = front.sum(axis=1)
        for start in range(0, len(points), _CHUNK):
            columns = np.ascontiguousarray(points[start : start + _CHUNK].T)
            sums, here = columns.sum(axis=0), found[start : start + _CHUNK]
            for row, total in zip(front, front_sums, strict=True):
                worse = sums > total
                for column, value in zip(columns, row, strict=True):
                    worse &= column >= value
                here |= worse
    return found


def _sorted_groups(values: Floats) -> tuple[Floats, Indices]:
    """Return the different rows, sorted by their columns from the first, and for each row given its number among them."""
    order = np.lexsort(values.T[::-1])
    ordered = values[order]
    new: Flags = np.ones(len(ordered), dtype=np.bool_)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.empty(len(ordered), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    return ordered[new], group


def _beaten(points: Floats) -> Flags:
    """Return which of different, sorted rows another one dominates; that one comes earlier."""
    count, columns = points.shape
    if count < 2:
        return np.zeros(count, dtype=np.bool_)
    if columns == 2:  # one sweep: a row is beaten unless it is better in the second column than all rows before it
        second = points[:, 1]
        beaten: Flags = np.zeros(count, dtype=np.bool_)
        beaten[1:] = second[1:] >= np.minimum.accumulate(second)[:-1]
        return beaten
    size = max(_BRUTE, 1 << (count - 1).bit_length())
    return _covered(_places(points[:, 1:], size)[:, None, :], np.ones((1, size), dtype=np.bool_))[0, :count]


def _places(points: Floats, size: int) -> NDArray[np.int32]:
    """Return each value's place in its column [columns, size]: equal values in the order of rows, padded at the end.

    The places of a column differ, so that "not worse and earlier" becomes "a smaller place and earlier".
    """
    count, columns = points.shape
    places = np.empty((columns, size), dtype=np.int32)
    places[:, count:] = np.arange(count, size, dtype=np.int32)
    for column in range(columns):
        places[column, np.argsort(points[:, column], kind="stable")] = np.arange(count, dtype=np.int32)
    return places


def _covered(places: NDArray[np.int32], source: Flags) -> Flags:
    """Return which entries [batch, size] have an earlier source in their row that is smaller in all of `places`.

    places: [columns, batch, size], different within a column; size: a power of two, at least _BRUTE. An entry may be found
    only through sources that are also earlier in the order the places were made from.
    """
    columns, batch, size = places.shape
    if columns == 1:
        nothing = np.iinfo(np.int32).max
        return np.asarray(places[0] > np.minimum.accumulate(np.where(source, places[0], nothing), axis=1))
    flat, sources = places.reshape(columns, -1), source.reshape(-1)
    covered = _covered_in_blocks(flat, sources)
    # Sorted by the first column, every block of positions is halved: entries of the later half look for sources in the
    # earlier half with one column less to compare. Then each half is a block, still sorted by the first column.
    order = np.argsort(places[0], axis=1).astype(np.int32)
    order += np.arange(0, batch * size, size, dtype=np.int32)[:, None]
    while size > _BRUTE:
        half = size // 2
        early = (order & half) == 0
        found = _covered(flat[1:, order], sources[order] & early) & ~early
        covered[order[found]] = True
        order = np.stack((order[early].reshape(-1, half), order[~early].reshape(-1, half)), axis=1).reshape(-1, half)
        size = half
    return covered.reshape(batch, -1)


def _covered_in_blocks(places: NDArray[np.int32], source: Flags) -> Flags:
    """Return which entries have an earlier, smaller source in their block of _BRUTE, pair by pair; all [..., n]."""
    blocks = places.reshape(len(places), -1, _BRUTE)
    covered: Flags = np.empty((blocks.shape[1], _BRUTE), dtype=np.bool_)
    earlier = np.tri(_BRUTE, k=-1, dtype=np.bool_)
    step = max(1, _CHUNK * 8 // _BRUTE)
    sources = source.reshape(-1, 1, _BRUTE)
    for start in range(0, len(covered), step):
        part = slice(start, start + step)
        pairs = earlier & sources[part]  # [block, entry, source]
        for column in blocks[:, part]:
            pairs &= column[:, :, None] > column[:, None, :]
        covered[part] = pairs.any(axis=2)
    return covered.reshape(-1)


def non_domination_ranks(costs: ArrayLike, violation: ArrayLike | None = None) -> Indices:
    """Return for each row of `costs` [points, objectives] the number of its front: 0 for the front, 1 for the one behind it.

    `violation` [points] says how much each point breaks its constraints (Deb et al. 2002, section VI): those that break none
    (0 or less) come first, the others follow by violation whatever they cost; equal violations share a front, and NaN is
    the worst. Rows with a NaN cost come last of all and never on front 0.
    """
    values = as_costs(costs)
    whole = ~np.isnan(values).any(axis=1)
    feasible = whole
    ranks = np.zeros(len(values), dtype=np.int64)
    if violation is not None:
        broken = np.asarray(violation, dtype=np.float64)
        if broken.shape != (len(values),):
            raise InputError(f"violation must be one number for each of {len(values)} points, got shape {broken.shape}")
        feasible = whole & (broken <= 0)
        ordered = np.unique(broken[whole & ~feasible], return_inverse=True)[1]
        ranks[whole & ~feasible] = ordered.reshape(-1)
    points, group = _sorted_groups(values[feasible])
    ranks[feasible] = _ranks_of_sorted(points)[group]
    ranks[whole & ~feasible] += ranks[feasible].max(initial=-1) + 1
    ranks[~whole] = ranks[whole].max(initial=0) + 1
    return ranks


def _ranks_of_sorted(points: Floats) -> Indices:
    """Return the ranks of different, sorted rows."""
    count, columns = points.shape
    if columns == 1:
        return np.arange(count)
    if columns == 2:  # in this order a front beats a row just if the second value of its last row does
        lasts: list[float] = []
        found = []
        for second in points[:, 1].tolist():
            rank = bisect_right(lasts, second)
            lasts[rank : rank + 1] = [second]
            found.append(rank)
        return np.array(found, dtype=np.int64)
    places: Places = _places(points[:, 1:], count)
    if count < 1 << 15:
        places = places.astype(np.int16)  # twice as many compared at once
    ranks = np.zeros(count, dtype=np.int32)
    for start in range(0, count, _MATRIX):
        block = slice(start, start + _MATRIX)
        for before in range(0, start, _MATRIX):
            earlier = slice(before, before + _MATRIX)
            behind = np.where(_smaller(places[:, earlier], places[:, block]), ranks[earlier, None] + 1, 0)
            np.maximum(ranks[block], behind.max(axis=0), out=ranks[block])
        beats = np.triu(_smaller(places[:, block], places[:, block]), 1)
        _peel(beats, ranks[block])
    return ranks.astype(np.int64)


def _smaller(a: Places, b: Places) -> Flags:
    """Return [m, n] which of m entries [columns, m] are smaller in all columns than which of n [columns, n]."""
    smaller: Flags = a[0, :, None] < b[0]
    for left, right in zip(a[1:], b[1:], strict=True):
        smaller &= left[:, None] < right
    return smaller


def _peel(beats: Flags, ranks: NDArray[np.int32]) -> None:
    """Raise `ranks` [n], lower bounds from elsewhere, to one behind the highest rank of those that beat each; `beats` [n, n]."""
    waiting = beats.sum(axis=0, dtype=np.int32)
    front = np.flatnonzero(waiting == 0)
    while front.size:
        reached = beats[front]
        behind = np.where(reached, ranks[front, None] + 1, 0).max(axis=0)
        np.maximum(ranks, behind, out=ranks)
        waiting[front] = -1
        waiting -= reached.sum(axis=0, dtype=np.int32)
        front = np.flatnonzero(waiting == 0)


def crowding_distance(costs: ArrayLike, ranks: ArrayLike) -> Floats:
    """Return how much room each row of `costs` has on its own front (`ranks`), [points]; inf at the ends (section III-B).

    Per front and objective, the distance between a row's neighbours over the front's range is added. An objective that is
    the same all over a front says nothing there and is left out, ends too; but the rows of a front of one or two are all
    ends. Infinite costs are put at the worst or best finite one of their front. Equal costs are ordered by the other
    columns, then by position. Rows with a NaN have distance 0 and are nobody's neighbors.
    """
    values = as_costs(costs)
    fronts = np.asarray(ranks, dtype=np.int64)
    if fronts.shape != (len(values),):
        raise InputError(f"ranks must be one number for each of {len(values)} points, got shape {fronts.shape}")
    distances = np.zeros(len(values))
    rows = np.lexsort(values.T[::-1])
    rows = rows[~np.isnan(values[rows]).any(axis=1)]
    for column in values.T:
        order = rows[np.lexsort((column[rows], fronts[rows]))]
        distances[order] += _room(column[order], fronts[order])
    _, front, sizes = np.unique(fronts[rows], return_inverse=True, return_counts=True)
    distances[rows[sizes[front.reshape(-1)] <= 2]] = np.inf
    return distances


def _room(sorted_values: Floats, fronts: Indices) -> Floats:
    """Return the distance between each value's neighbors over its front's range, both sorted by front and value."""
    count = len(sorted_values)
    if count == 0:
        return np.zeros(0)
    starts = np.flatnonzero(np.diff(fronts, prepend=fronts[0] - 1))
    ends = np.append(starts[1:], count) - 1
    finite = np.isfinite(sorted_values)
    lowest = np.minimum.reduceat(np.where(finite, sorted_values, np.inf), starts)
    highest = np.maximum.reduceat(np.where(finite, sorted_values, -np.inf), starts)
    lowest, highest = np.where(lowest > highest, 0.0, lowest), np.where(lowest > highest, 0.0, highest)
    varies = sorted_values[starts] < sorted_values[ends]
    sizes = ends - starts + 1
    low, high = np.repeat(lowest, sizes), np.repeat(highest, sizes)
    halves = np.clip(sorted_values, low, high) / 2  # so that no difference overflows
    spans = high / 2 - low / 2
    room = np.zeros(count)
    room[1:-1] = halves[2:] - halves[:-2]
    np.divide(room, spans, out=room, where=spans > 0)
    room[np.repeat(~varies, sizes)] = 0.0
    room[starts[varies]] = np.inf
    room[ends[varies]] = np.inf
    return room
