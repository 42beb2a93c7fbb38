"""Cycles of an array whose PEs pass over zero weights, from the real pattern of zeros: a fold is as long as its fullest lane.

No published machine is copied to the cycle; each dataflow gets the smallest machine that can pass over a weight without
breaking its dataflow. `CHUNK` positions are a barrier: what lanes select from is held (os, ws: ifmap words; is: partial sums)
until the fullest lane is through.

| dataflow | lane                       | passes over     | what a PE needs beside its MAC                              |
| -------- | -------------------------- | --------------- | ----------------------------------------------------------- |
| os       | PE column = output channel | k, in chunks    | picks its ifmap word from its row's chunk by the weight's   |
|          |                            |                 | position (indexing module of Cambricon-X)                   |
| ws       | PE column = output channel | k, in chunks    | the same: a column's kept weights sit in adjacent rows, and |
|          |                            |                 | these rows see all words of their chunk                     |
| is       | PE row = reduction index   | n, in chunks    | a product goes to its output channel's sum in accumulators  |
|          |                            |                 | of the column (scatter network of SCNN)                     |

So os streams H = sum over chunks of (most weights kept in a column) cycles in place of k; ws fills H rows in place of k; is
streams H (most weights kept in a row) in place of n. Load, skew and drain are those of `timing`. Zeros in activations are not
passed over. Not priced: the selection networks themselves, but for the positions they need (a bit per weight, in storage).

Sources: Zhang et al., Cambricon-X, MICRO 2016 (positions select ifmap words, PEs are apart until a barrier); Gondimalla et al.,
SparTen, MICRO 2019 (bit mask per chunk of 128, from memory); Parashar et al., SCNN, ISCA 2017 (input stationary, products
scattered to accumulators, PEs wait for the slowest).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.timing import Dataflow, IntArray

CHUNK = 128
"""Positions between two barriers: SparTen's chunk of a bit mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippingCycles:
    """Compute cycles, and the PE x cycle slots they are made of: the five others add up to cycles x rows x cols.

    `useful`: products of weights that are not zero. `imbalance`: PEs waiting for the fullest lane. `groups`: PEs between
    groups side by side. `padding`: PEs a fold leaves idle. `fill_drain`: all slots of cycles in which nothing streams.
    `row_length`: reduction positions along the rows, on which partial sums depend: k but for ws, whose folds fill fewer rows
    (mean over column folds, rounded up).
    """

    cycles: int
    useful: int
    imbalance: int
    groups: int
    padding: int
    fill_drain: int
    row_length: int


@dataclass(frozen=True, slots=True)
class Runs:
    """Folds in the order they run, alike within a run: how many, load (ws, is) or drain (os) and stream of one, in cycles."""

    count: IntArray
    exposed: IntArray
    stream: IntArray

    def cycles(self, dataflow: Dataflow, *, overlap: bool, repeats: int = 1) -> int:
        """Return the cycles of all folds, `repeats` times over; `overlap` hides loads or drains behind the folds beside them."""
        if not self.count.size:
            return 0
        streams = int(self.count @ self.stream) * repeats
        if not overlap:
            return streams + int(self.count @ self.exposed) * repeats
        once = int(_late(dataflow, self.exposed, self.stream).sum())  # none within a run: a stream passes all its rows
        seam = int(_late(dataflow, self.exposed[[-1, 0]], self.stream[[-1, 0]]).sum())
        ends = self.exposed[-1 if dataflow is Dataflow.OS else 0]
        return streams + int(ends) + once * repeats + seam * (repeats - 1)


def _late(dataflow: Dataflow, exposed: IntArray, stream: IntArray) -> IntArray:
    """Return for each pair of neighbours how much the drain of the one outlasts the next stream, or the next load this stream."""
    hidden, beside = (exposed[:-1], stream[1:]) if dataflow is Dataflow.OS else (exposed[1:], stream[:-1])
    late: IntArray = np.maximum(0, hidden - beside)
    return late


def skipping_cycles(
    live: NDArray[np.bool_],
    m: int,
    dataflow: Dataflow,
    rows: int,
    cols: int,
    *,
    side_by_side: bool = True,
    overlap: bool = False,
    serial: int = 1,
    repeats: int = 1,
    chunk: int = CHUNK,
) -> SkippingCycles:
    """Return the cycles of `live.shape[0]` groups of m x k by k x n, `repeats` times, when zero weights are passed over.

    `live` [groups, n, k] is true where a weight is kept. `side_by_side` groups share folds where they fit whole; `overlap`
    hides loads (ws, is) or drains (os); `serial` cycles make a MAC. All weights kept, the cycles are those of
    `timing.fold_cycles`.
    """
    made = _folds(live, m, dataflow, rows, cols, side_by_side, serial, chunk)
    cycles = made.runs.cycles(dataflow, overlap=overlap, repeats=repeats)
    pes = rows * cols
    useful, block, used, whole = (v * repeats for v in (made.useful, made.block, made.used, made.streamed * pes))
    return SkippingCycles(
        cycles=cycles,
        useful=useful,
        imbalance=block - useful,
        groups=used - block,
        padding=whole - used,
        fill_drain=cycles * pes - whole,
        row_length=made.row_length,
    )


@dataclass(frozen=True, slots=True)
class _Folds:
    """Runs; slots of useful PEs, of PEs in groups' own blocks, of used PEs; cycles that stream; reduction along the rows."""

    runs: Runs
    useful: int
    block: int
    used: int
    streamed: int
    row_length: int


def _folds(
    live: NDArray[np.bool_],
    m: int,
    dataflow: Dataflow,
    rows: int,
    cols: int,
    side_by_side: bool,
    serial: int,
    chunk: int,
) -> _Folds:
    groups, n, k = live.shape
    row_size = m if dataflow is Dataflow.OS else k
    col_size = m if dataflow is Dataflow.IS else n
    beside = 1
    if side_by_side and row_size <= rows and col_size <= cols:
        beside = min(rows // row_size, cols // col_size, groups)
    per_fold = np.full(groups // beside, beside)
    per_fold = np.append(per_fold, groups % beside) if groups % beside else per_fold  # groups in each fold
    kept = live.reshape(groups, n * k).sum(1, dtype=np.int64)
    useful = int(kept.sum()) * m * serial
    if dataflow is Dataflow.OS:
        return _os(live, m, rows, cols, per_fold, serial, chunk, useful)
    if dataflow is Dataflow.WS:
        return _ws(live, m, rows, cols, per_fold, serial, chunk, useful)
    return _is(live, m, rows, cols, per_fold, serial, chunk, useful)


def _os(
    live: NDArray[np.bool_], m: int, rows: int, cols: int, per_fold: IntArray, serial: int, chunk: int, useful: int
) -> _Folds:
    groups, n, k = live.shape
    lanes, starts = _starts(per_fold, n, cols)
    length = _lengths(live.reshape(groups * n, -1), starts, chunk) * serial  # [column folds]
    used_cols = np.diff(starts)
    beside = np.repeat(per_fold, lanes)
    full, last = divmod(m, rows)
    heights = np.array([rows] * (full > 0) + [last] * (last > 0), dtype=np.int64)
    times = np.array([full] * (full > 0) + [1] * (last > 0), dtype=np.int64)
    # Side by side a group fits whole, so there is one row fold, of as many rows as its groups have together.
    used_rows = heights[None, :] * beside[:, None]
    alive = length > 0
    runs = Runs(
        count=np.broadcast_to(times, used_rows.shape)[alive].ravel(),
        exposed=used_rows[alive].ravel(),
        stream=(length[:, None] + used_rows + used_cols[:, None] - 2)[alive].ravel(),
    )
    used = int(((used_rows * times).sum(1) * used_cols * length).sum())
    block = int((m * used_cols * length).sum())
    return _Folds(runs, useful, block, used, int((length * times.sum()).sum()), k)


def _ws(
    live: NDArray[np.bool_], m: int, rows: int, cols: int, per_fold: IntArray, serial: int, chunk: int, useful: int
) -> _Folds:
    groups, n, _ = live.shape
    _, starts = _starts(np.ones(groups, dtype=np.int64), n, cols)
    height = _lengths(live.reshape(groups * n, -1), starts, chunk)  # [groups x column folds]
    used_cols, stream = np.diff(starts), m * serial
    block = int((height * used_cols).sum()) * stream
    mean_height = max(1, -(-int(height.sum()) // len(height)))
    if per_fold.size and per_fold[0] > 1:  # side by side: heights and widths of a fold's groups add up
        first = np.concatenate([[0], np.cumsum(per_fold)[:-1]])
        height, used_cols = np.add.reduceat(height, first), np.add.reduceat(used_cols, first)
    full, last = np.divmod(height, rows)
    count = np.stack([full, (last > 0).astype(np.int64)], axis=1)
    used_rows = np.stack([np.full_like(full, rows), last], axis=1)
    streams = stream + used_rows + used_cols[:, None] - 2
    here = count > 0
    runs = Runs(count=count[here], exposed=used_rows[here], stream=streams[here])
    return _Folds(runs, useful, block, int((height * used_cols).sum()) * stream, int(count.sum()) * stream, mean_height)


def _is(
    live: NDArray[np.bool_], m: int, rows: int, cols: int, per_fold: IntArray, serial: int, chunk: int, useful: int
) -> _Folds:
    groups, n, k = live.shape
    lanes, starts = _starts(per_fold, k, rows)
    length = _lengths(np.ascontiguousarray(live.swapaxes(1, 2)).reshape(groups * k, n), starts, chunk) * serial
    used_rows, beside = np.diff(starts), np.repeat(per_fold, lanes)
    full, last = divmod(m, cols)
    widths = [cols] * full + [last] * (last > 0)  # one column fold where groups are side by side
    first = np.concatenate([[0], np.cumsum(lanes)])
    parts = []
    for g in range(len(lanes)):  # groups outside, column folds, row folds inside
        fold = slice(first[g], first[g + 1])
        for width in widths:
            parts.append((used_rows[fold], length[fold] + used_rows[fold] + width * beside[fold] - 2, length[fold] > 0))
    load, stream, alive = (np.concatenate([p[i] for p in parts]) for i in range(3))
    runs = Runs(count=np.ones(int(alive.sum()), dtype=np.int64), exposed=load[alive], stream=stream[alive])
    used = int((used_rows * length * beside).sum()) * m
    return _Folds(runs, useful, int((used_rows * length).sum()) * m, used, int(length.sum()) * len(widths), k)


def _starts(per_fold: IntArray, size: int, limit: int) -> tuple[IntArray, IntArray]:
    """Return how many folds `size` lanes a group (times groups side by side) make, and where each fold's lanes start."""
    counts, starts, at = [], [0], 0
    for beside in per_fold.tolist():
        lanes = size * beside
        edges = range(0, lanes, min(lanes, limit))
        counts.append(len(edges))
        starts.extend(at + min(e + limit, lanes) for e in edges)
        at += lanes
    return np.array(counts, dtype=np.int64), np.array(starts, dtype=np.int64)


def _lengths(lanes: NDArray[np.bool_], starts: IntArray, chunk: int) -> IntArray:
    from picojoule.accel.systolic._skipping_kernels import barrier_lengths  # numba is not needed to price anything else

    made: IntArray = barrier_lengths(np.ascontiguousarray(lanes), starts, chunk)
    return made
