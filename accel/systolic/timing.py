"""Compute cycles and PE utilization of matrix products on an R x C systolic array, as array functions.

Every argument broadcasts, typically (layers x 1) against (design points), in int64; call `check_bounds` first,
because int64 wraps silently. A product m x n x k is cut into folds that fit the array:

| dataflow | rows hold | columns hold | streamed, T |
| -------- | --------- | ------------ | ----------- |
| os       | m         | n            | k           |
| ws       | k         | n            | m           |
| is       | k         | m            | n           |

Default timing: a fold uses r <= R rows and c <= C columns. os streams for T + r + c - 2 cycles, then drains its
results through the columns for r cycles; ws and is load the stationary operand for r cycles, then stream for T + r +
c - 2 cycles. Folds run one after the other, column folds outside, row folds inside, groups outermost.

Groups side by side: where a group fits one fold whole, P = min(R // rows of a group, C // columns of a group, groups) of them
share a fold, block by block along its diagonal, which then uses p x r rows and p x c columns (p groups, fewer in the last fold).
PEs off the diagonal multiply nothing. `packed_groups` gives P; everywhere else `together` is 1, groups one after the other. Each
fold saved saves T - 2 cycles (with T = 1, sharing costs one).

The `scalesim_*` functions give what SCALE-Sim counts (Samajdar et al., ISPASS 2020; release 3.0.0), including what we
hold to be wrong: edge folds cost as much as full ones and os results leave without a drain. Memory stalls are in
`traffic`.
"""

from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule.sim.errors import InputError, unknown_choice

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_INT64_MAX = 2**63 - 1


class Dataflow(IntEnum):
    """Which operand stays in the PEs; integer codes, so that one array may hold designs of different dataflows."""

    OS = 0
    WS = 1
    IS = 2

    @classmethod
    def of(cls, word: str) -> "Dataflow":
        """Return the dataflow written `os`, `ws` or `is`.

        Raises:
            InputError: for any other word.

        """
        names = {member.name.lower(): member for member in cls}
        if word not in names:
            raise InputError(unknown_choice("dataflow", word, list(names)))
        return names[word]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldGrid:
    """How products lie on the array: sizes along its rows and columns, folds of each, and the streamed length T.

    `first_rows` is the used rows of the first row fold; `last_rows` and `last_cols` are those of the last (edge)
    folds.
    """

    dataflow: IntArray
    row_size: IntArray
    col_size: IntArray
    streamed: IntArray
    row_folds: IntArray
    col_folds: IntArray
    first_rows: IntArray
    last_rows: IntArray
    last_cols: IntArray

    @property
    def folds(self) -> IntArray:
        """Folds of one group."""
        return self.row_folds * self.col_folds


def fold_grid(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
) -> FoldGrid:
    """Return the folds of products m x n x k (one group each) on rows x cols arrays.

    Raises:
        InputError: if a code in `dataflow` is not a `Dataflow`.

    """
    code, R, C, M, N, K = (_int64(value) for value in (dataflow, rows, cols, m, n, k))
    if code.size and (code.min() < Dataflow.OS or code.max() > Dataflow.IS):
        raise InputError("dataflow codes must be members of Dataflow (OS, WS, IS)")
    is_os, is_is = code == Dataflow.OS, code == Dataflow.IS
    row_size = np.where(is_os, M, K)
    col_size = np.where(is_is, M, N)
    row_folds, col_folds = -(-row_size // R), -(-col_size // C)
    return FoldGrid(
        dataflow=code,
        row_size=row_size,
        col_size=col_size,
        streamed=np.where(is_os, K, np.where(is_is, N, M)),
        row_folds=row_folds,
        col_folds=col_folds,
        first_rows=np.minimum(R, row_size),
        last_rows=row_size - (row_folds - 1) * R,
        last_cols=col_size - (col_folds - 1) * C,
    )


def packed_groups(grid: FoldGrid, rows: npt.ArrayLike, cols: npt.ArrayLike, groups: npt.ArrayLike) -> IntArray:
    """Return how many groups share a fold: as many as fit it whole, 1 where a group needs more than one fold."""
    fitting = np.minimum(_int64(rows) // grid.row_size, _int64(cols) // grid.col_size)
    packed: IntArray = np.maximum(1, np.minimum(fitting, _int64(groups)))
    return packed


def fold_cycles(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    overlap_load: npt.ArrayLike = False,
    overlap_drain: npt.ArrayLike = False,
    *,
    together: npt.ArrayLike = 1,
    grid: FoldGrid | None = None,
) -> IntArray:
    """Return the compute cycles of `groups` products m x n x k, `together` of which share a fold (timing: see the module).

    `overlap_load` (ws, is) hides the load of the next fold behind the stream of the current one, so that the next
    stream starts after the longer of the two; the first load is exposed. `overlap_drain` (os) hides a drain behind
    the stream of the next fold likewise; the last drain is exposed. Each is ignored by the other dataflows. `grid` is the
    `fold_grid` of the same arguments, where the caller has it.
    """
    grid = grid or fold_grid(dataflow, rows, cols, m, n, k)
    G, C, P = _int64(groups), _int64(cols), _int64(together)
    is_os = grid.dataflow == Dataflow.OS
    passes = -(-G // P)
    last_pass = G - (passes - 1) * P  # groups in it
    # Sum over the folds of r is col_folds x row_size (every column fold passes all rows once), and likewise of c.
    edge = grid.col_folds * grid.row_size
    stream = passes * grid.folds * (grid.streamed - 2) + G * (edge + grid.row_folds * grid.col_size)

    # With overlap, a load or drain of r cycles outlasts the stream beside it (at least as long as its own used rows)
    # only where a full row fold meets an edge row fold: in os when the edge fold streams over the drain before it
    # (once per column fold), in ws and is when it streams over the load after it (the same, but nothing follows the
    # very last fold). Groups that share folds have one fold each; only the drain of a full fold can outlast the stream of
    # the last one, which holds fewer groups.
    def outlast(used_cols: IntArray) -> IntArray:
        late: IntArray = np.maximum(0, grid.first_rows - (grid.streamed + grid.last_rows + used_cols - 2))
        return late

    exposed = np.where(is_os, last_pass * grid.last_rows, P * grid.first_rows)
    waits = G * (grid.col_folds - 1) * outlast(C) + np.where(is_os, G, G - 1) * outlast(grid.last_cols)
    fewer = P * grid.first_rows - (grid.streamed + last_pass * (grid.row_size + grid.col_size) - 2)
    waits = waits + np.where(is_os, np.maximum(0, fewer), 0)  # `fewer` is positive only where the last fold holds fewer
    overlapped = np.where(is_os, np.asarray(overlap_drain), np.asarray(overlap_load)).astype(bool)
    total: IntArray = stream + np.where(overlapped, exposed + waits, G * edge)
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class PeCycles:
    """Where the PE x cycle slots of a layer's compute cycles went; the four add up to compute_cycles x R x C exactly.

    `useful`: multiply-accumulates. `padding`: slots of the PEs an edge fold leaves idle, in the T cycles a fold would
    need if it streamed without skew. `groups`: likewise of the PEs off the diagonal, where groups share a fold.
    `fill_drain`: all slots of the cycles beyond T: skew, load, drain, waiting for a load or drain.
    """

    useful: IntArray
    padding: IntArray
    groups: IntArray
    fill_drain: IntArray


def pe_cycles(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    compute_cycles: npt.ArrayLike,
    together: npt.ArrayLike = 1,
    grid: FoldGrid | None = None,
) -> PeCycles:
    """Return the slots of `compute_cycles` (from `fold_cycles` or `scalesim_cycles` of the same arguments) by use."""
    grid = grid or fold_grid(dataflow, rows, cols, m, n, k)
    pes = _int64(rows) * _int64(cols)
    G, P = _int64(groups), _int64(together)
    passes = -(-G // P)
    last_pass = G - (passes - 1) * P
    streamed = passes * grid.folds * grid.streamed
    useful = useful_slots(m, n, k, groups)
    # A fold of p groups spans p x p blocks of which p multiply; the groups of all folds are G.
    off_diagonal = (passes - 1) * P * P + last_pass * last_pass - G
    idle = off_diagonal * grid.streamed * grid.row_size * grid.col_size
    return PeCycles(
        useful=useful,
        padding=streamed * pes - useful - idle,
        groups=idle,
        fill_drain=(_int64(compute_cycles) - streamed) * pes,
    )


def useful_slots(m: npt.ArrayLike, n: npt.ArrayLike, k: npt.ArrayLike, groups: npt.ArrayLike = 1) -> IntArray:
    """Return the PE x cycle slots in which a PE multiplies: one for each MAC of the sizes that are timed."""
    return _int64(m) * _int64(n) * _int64(k) * _int64(groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilization:
    """Shares of an array's MAC slots, 0 to 1.

    `mapping_efficiency`: mean over folds of used PEs / all PEs. `compute_utilization`: MACs / slots of the compute
    cycles. `utilization`: MACs / slots of compute and stall cycles; with the four `lost_` shares it adds up to 1.
    """

    mapping_efficiency: FloatArray
    compute_utilization: FloatArray
    utilization: FloatArray
    lost_padding: FloatArray
    lost_groups: FloatArray
    lost_fill_drain: FloatArray
    lost_bandwidth: FloatArray


def utilization(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    compute_cycles: npt.ArrayLike,
    stall_cycles: npt.ArrayLike = 0,
    together: npt.ArrayLike = 1,
    grid: FoldGrid | None = None,
) -> Utilization:
    """Return the utilization and the shares lost to padding, groups, fill/drain and bandwidth (stalls)."""
    grid = grid or fold_grid(dataflow, rows, cols, m, n, k)
    slots = pe_cycles(
        dataflow, rows, cols, m, n, k, groups, compute_cycles=compute_cycles, together=together, grid=grid
    )
    pes = _int64(rows) * _int64(cols)
    fold_slots = -(-_int64(groups) // _int64(together)) * grid.folds * pes
    busy, stalls = _int64(compute_cycles), _int64(stall_cycles)
    computing = busy / (busy + stalls)
    return Utilization(
        mapping_efficiency=_int64(groups) * grid.row_size * grid.col_size / fold_slots,
        compute_utilization=slots.useful / (busy * pes),
        utilization=slots.useful / (busy * pes) * computing,
        lost_padding=slots.padding / (busy * pes) * computing,
        lost_groups=slots.groups / (busy * pes) * computing,
        lost_fill_drain=slots.fill_drain / (busy * pes) * computing,
        lost_bandwidth=stalls / (busy + stalls),
    )


def scalesim_cycles(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
) -> IntArray:
    """Return the stall-free cycles SCALE-Sim simulates; its "Total Cycles" is the index of the last, one less."""
    grid = fold_grid(dataflow, rows, cols, m, n, k)
    return _int64(groups) * grid.folds * _scalesim_fold_cycles(grid, rows, cols)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalesimUtilization:
    """The three percentages of SCALE-Sim's compute report."""

    overall_pct: FloatArray
    mapping_efficiency_pct: FloatArray
    compute_pct: FloatArray


def scalesim_utilizations(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    stall_cycles: npt.ArrayLike = 0,
) -> ScalesimUtilization:
    """Return SCALE-Sim's percentages, its slips included.

    Overall divides by "Total Cycles" (one too few; a single-cycle layer, where that is 0, counts 1). Compute divides
    by a fold length that is C - 1 too long in ws and is. SCALE-Sim knows no groups: here they are one layer, run in
    sequence.
    """
    grid = fold_grid(dataflow, rows, cols, m, n, k)
    pes = _int64(rows) * _int64(cols)
    fold = _scalesim_fold_cycles(grid, rows, cols)
    total = _int64(groups) * grid.folds * fold - 1 + _int64(stall_cycles)
    macs = _int64(m) * _int64(n) * _int64(k) * _int64(groups)
    mapping = 100.0 * (grid.row_size * grid.col_size) / (grid.folds * pes)
    counted = fold + np.where(grid.dataflow == Dataflow.OS, 0, _int64(cols) - 1)
    return ScalesimUtilization(
        overall_pct=100.0 * macs / (np.maximum(total, 1) * pes),
        mapping_efficiency_pct=mapping,
        compute_pct=mapping * grid.streamed / counted,
    )


def _scalesim_fold_cycles(grid: FoldGrid, rows: npt.ArrayLike, cols: npt.ArrayLike) -> IntArray:
    R, C = _int64(rows), _int64(cols)
    return grid.streamed + np.where(grid.dataflow == Dataflow.OS, R, 2 * R) + C - 2


def check_bounds(
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    ifmap_elements: npt.ArrayLike = 1,
    bits: npt.ArrayLike = 1,
) -> None:
    """Refuse sizes for which a count of this module or of `traffic` might not fit int64.

    `ifmap_elements` and `bits` (the widest operand's width) matter to `traffic.dram_traffic` only. Sizes of layers
    broadcast among themselves; of arrays only the largest matters, so a million designs cost nothing.

    Raises:
        InputError: if a size is not a whole number of at least 1, or a count might exceed 2^63 - 1.

    """
    R, C = (int(_whole(name, value).max()) for name, value in (("rows", rows), ("cols", cols)))
    sizes = [_whole(name, value) for name, value in (("m", m), ("n", n), ("k", k), ("groups", groups))]
    elements = _whole("ifmap_elements", ifmap_elements)
    widest = int(_whole("bits", bits).max())
    # PE x cycle slots: folds x R <= row_size + R, folds x C <= col_size + C, cycles of a fold <= T + 2R + 2C, so for
    # every dataflow at most groups x the product of the three sizes, each made longer by:
    reach = 2 * (R + C)
    M, N, K, G = sizes
    bounds = (
        _largest_product((M, N, K, G), (reach, reach, reach, 0)),
        4 * widest * _largest_product((M, N, K, G), (0, 0, 0, 0)),  # bits of one operand; four of them are added up
        4 * widest * _largest_product((elements, N), (0, 0)),  # bits of an ifmap fetched for every output channel
    )
    if max(bounds) > _INT64_MAX:
        raise InputError(
            f"layer sizes up to m={M.max()} n={N.max()} k={K.max()} groups={G.max()} on a {R}x{C} array "
            "give counts beyond 64-bit integers; split the layer"
        )


def _largest_product(factors: tuple[npt.NDArray[Any], ...], offsets: tuple[int, ...]) -> int:
    """Return an upper bound of the elementwise products of factor + offset: the largest in Python ints, plus 2^-40."""
    arrays = np.broadcast_arrays(*factors)
    # float64 finds the largest element up to a few roundings of 2^-53 each; the margin covers a neighbour it mistook.
    terms = [(a.astype(np.float64) + offset) for a, offset in zip(arrays, offsets, strict=True)]
    where = int(np.argmax(prod(terms, start=np.float64(1.0))))
    exact = prod(int(a.flat[where]) + offset for a, offset in zip(arrays, offsets, strict=True))
    return exact + (exact >> 40)


def _whole(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.size == 0 or array.dtype.kind not in "iuO":
        raise InputError(f"{name} must be whole numbers, got {array.dtype} of shape {array.shape}")
    smallest, largest = array.min(), array.max()
    if smallest < 1:
        raise InputError(f"{name} must be at least 1, got {smallest}")
    if largest > _INT64_MAX:
        raise InputError(f"{name} must be below 2^63, got {largest}")
    return array


def _int64(value: npt.ArrayLike) -> IntArray:
    return np.asarray(value, dtype=np.int64)
