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

What SCALE-Sim counts instead is in `scalesim_timing`, folds in `folds`, bounds in `size_bounds`, memory stalls in `pipeline`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.folds import Dataflow, FloatArray, FoldGrid, IntArray, fold_grid, int64, packed_groups
from picojoule.accel.systolic.scalesim_timing import ScalesimUtilization, scalesim_cycles, scalesim_utilizations
from picojoule.accel.systolic.size_bounds import check_bounds

__all__ = [
    "Dataflow",
    "FloatArray",
    "FoldGrid",
    "IntArray",
    "PeCycles",
    "ScalesimUtilization",
    "Utilization",
    "check_bounds",
    "fold_cycles",
    "fold_grid",
    "packed_groups",
    "pe_cycles",
    "scalesim_cycles",
    "scalesim_utilizations",
    "useful_slots",
    "utilization",
]


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
    G, C, P = int64(groups), int64(cols), int64(together)
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
    pes = int64(rows) * int64(cols)
    G, P = int64(groups), int64(together)
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
        fill_drain=(int64(compute_cycles) - streamed) * pes,
    )


def useful_slots(m: npt.ArrayLike, n: npt.ArrayLike, k: npt.ArrayLike, groups: npt.ArrayLike = 1) -> IntArray:
    """Return the PE x cycle slots in which a PE multiplies: one for each MAC of the sizes that are timed."""
    return int64(m) * int64(n) * int64(k) * int64(groups)


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
    pes = int64(rows) * int64(cols)
    fold_slots = -(-int64(groups) // int64(together)) * grid.folds * pes
    busy, stalls = int64(compute_cycles), int64(stall_cycles)
    computing = busy / (busy + stalls)
    return Utilization(
        mapping_efficiency=int64(groups) * grid.row_size * grid.col_size / fold_slots,
        compute_utilization=slots.useful / (busy * pes),
        utilization=slots.useful / (busy * pes) * computing,
        lost_padding=slots.padding / (busy * pes) * computing,
        lost_groups=slots.groups / (busy * pes) * computing,
        lost_fill_drain=slots.fill_drain / (busy * pes) * computing,
        lost_bandwidth=stalls / (busy + stalls),
    )
