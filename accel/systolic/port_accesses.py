"""How often the array's edge reads and writes its SRAMs, whole rows of words at a time; array functions.

An SRAM's port is as wide as the array edge that it feeds, and an edge fold uses only part of it: r of R rows, c of C columns.
Each access wakes the memory whatever it uses, so energy needs accesses beside words (`sram_port`). Per fold:

| stream | what | accesses | words of each |
| --- | --- | --- | --- |
| os: ifmap, filter; ws: ifmap; is: filter | one an operand step | T | r or c |
| ws: filter; is: ifmap | the stationary tile, row by row | r | c |
| os: results leave, row by row | | r | c |
| ws, is: sums, and the results of the last row fold | one a step | T | c |

The skew of the edge is made behind the port, by registers. Groups that share a fold share its streams' accesses; their tiles and
drains touch one group's columns at a time.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.timing import Dataflow, FloatArray, FoldGrid, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PortAccesses:
    """Accesses of the edge, arrays that broadcast as the grid's; `shifts` are register moves of loads or drains.

    `psum_writes` are sums of all row folds but the last, `psum_reads` those read back; `outputs` are results that leave.
    `shifts` counts words that move into a PE's register while a stationary tile is loaded (ws, is: row i takes r - i of them) or
    results drain (os: one less), `tiles` words of those tiles or results.
    """

    ifmap_reads: IntArray
    filter_reads: IntArray
    psum_writes: IntArray
    psum_reads: IntArray
    outputs: IntArray
    shifts: FloatArray
    tiles: FloatArray


def port_accesses(
    grid: FoldGrid, rows: npt.ArrayLike, groups: npt.ArrayLike = 1, together: npt.ArrayLike = 1
) -> PortAccesses:
    """Return the accesses of `groups` products of a grid, `together` of which share a fold (`timing.packed_groups`)."""
    G, P, R = (np.asarray(value, dtype=np.int64) for value in (groups, together, rows))
    is_os = grid.dataflow == Dataflow.OS
    packed = bool((P > 1).any())
    passes = -(-G // P) if packed else G
    col_steps = passes * (grid.col_folds * grid.streamed)
    steps = col_steps * grid.row_folds
    tile_rows = G * (grid.col_folds * grid.row_size)
    psums = np.where(is_os, 0, steps - col_steps)
    # A tile's word for row i moves i + 1 times, counted from 0: r (r + 1) / 2 moves per column of a load, r (r - 1) / 2 of a
    # drain. Full folds, then the edge fold.
    out = np.where(is_os, -1, 1)
    moves = (grid.row_folds - 1) * (R * (R + out)) + grid.last_rows * (grid.last_rows + out)
    shifts = moves * (0.5 * G * grid.col_size)
    if packed:
        shifts = np.where(P > 1, _packed_moves(grid, G, P, passes, out), shifts)
    return PortAccesses(
        ifmap_reads=np.where(grid.dataflow == Dataflow.IS, tile_rows, steps),
        filter_reads=np.where(grid.dataflow == Dataflow.WS, tile_rows, steps),
        psum_writes=psums,
        psum_reads=psums,
        outputs=np.where(is_os, tile_rows, col_steps),
        shifts=shifts,
        tiles=np.asarray(G * (grid.row_size * grid.col_size), dtype=np.float64),
    )


def _packed_moves(grid: FoldGrid, G: IntArray, P: IntArray, passes: IntArray, out: IntArray) -> FloatArray:
    """Return word moves where groups share folds: group j of a fold of p lies j row_size rows below the top."""
    r, c = grid.row_size.astype(np.float64), grid.col_size

    def of_fold(p: IntArray) -> FloatArray:
        # Words of group j pass the j r rows above (a drain: below) and then rows of their own.
        return np.asarray(c * (p * r * (r + out) / 2 + r * r * (p * (p - 1) / 2.0)))

    return np.asarray((passes - 1) * of_fold(P) + of_fold(G - (passes - 1) * P))
