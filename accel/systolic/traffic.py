"""SRAM and DRAM traffic of matrix products on a systolic array, as array functions; `pipeline` makes stalls of it.

Three SRAMs (ifmap, filter, ofmap) or one that they share, double-buffered: half of it holds what is in use, the other half
what is on its way. The loop order is fixed as in `timing`: groups, column folds, row folds inside. DRAM moves a word once
where its reuse fits the usable half, and again for every pass where it does not (all per group; r, c: PEs used by the first
fold):

| operand | os                                | ws                       | is                       |
| ------- | --------------------------------- | ------------------------ | ------------------------ |
| ifmap   | if it fits: once                  | if it fits: once         | once                     |
|         | else: every column fold           | else: every fold (*)     |                          |
| filter  | if k x c words fit: once          | once                     | if it fits: once         |
|         | else: every row fold              |                          | else: every column fold  |
| psums   | stay in the PEs                   | if m x c fit: stay, else | if n x c fit: stay, else |
|         |                                   | every row fold spills    | every row fold spills    |

A spill writes partial sums at the accumulator's width and reads them back for the next row fold; the last row fold writes
outputs instead.

The ifmap is counted in distinct elements, because im2col copies of a pixel share an address. Copies are fetched again where
the pixel cannot have stayed: (*) in ws each row fold passes over all pixels, and fetches the smaller of the ifmap and its
own window words m x r; in os and is (a block of r or c pixels with all of k at a time) the overlap of blocks is fetched once
if a block's window words fit, else each of them is.

Other loop orders are in `mapping_space`, data left on chip by the layer before in `residency`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.timing import Dataflow, FloatArray, FoldGrid, IntArray, fold_grid
from picojoule.sim.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class SramCounts:
    """Words the array reads from and writes to its SRAMs; partial sums live in the ofmap SRAM."""

    ifmap_reads: IntArray
    filter_reads: IntArray
    ofmap_writes: IntArray
    psum_reads: IntArray


def sram_counts(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    grid: FoldGrid | None = None,
) -> SramCounts:
    """Return SRAM words; in ws and is every row fold writes partial sums, and all but the first read the last ones.

    `grid` is the `fold_grid` of the same arguments, where the caller has it.
    """
    grid = grid or fold_grid(dataflow, rows, cols, m, n, k)
    M, N, K, G = (np.asarray(size, dtype=np.int64) for size in (m, n, k, groups))
    is_os, is_ws, is_is = (grid.dataflow == flow for flow in Dataflow)
    psum_passes = np.where(is_os, 1, grid.row_folds)
    return SramCounts(
        ifmap_reads=G * M * K * np.where(is_is, 1, grid.col_folds),
        filter_reads=G * K * N * np.where(is_os, grid.row_folds, np.where(is_ws, 1, grid.col_folds)),
        ofmap_writes=G * M * N * psum_passes,
        psum_reads=G * M * N * (psum_passes - 1),
    )


def scalesim_sram_counts(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
) -> SramCounts:
    """Return SCALE-Sim 3.0.0's words: partial sums are never read, and os writes R + C words too many per fold."""
    ours = sram_counts(dataflow, rows, cols, m, n, k, groups)
    grid = fold_grid(dataflow, rows, cols, m, n, k)
    G, R, C = (np.asarray(size, dtype=np.int64) for size in (groups, rows, cols))
    return SramCounts(
        ifmap_reads=ours.ifmap_reads,
        filter_reads=ours.filter_reads,
        ofmap_writes=ours.ofmap_writes + np.where(grid.dataflow == Dataflow.OS, G * grid.folds * (R + C), 0),
        psum_reads=np.zeros_like(ours.psum_reads),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DramTraffic:
    """Words over the DRAM bus by operand, and bytes in all.

    `fill_bytes` is the part of `read_bytes` that must arrive before the array can start. `row_operand_stays`: what streams
    along the rows (os, ws: ifmap, is: filter) comes in the first column fold only; `col_operand_stays`: what streams along the
    columns (os: filter) comes in the first row fold only. `held_bytes` of the ofmap SRAM's half (of the shared one's: all
    sets that stay) are in use while the layer runs.
    """

    ifmap_reads: IntArray
    filter_reads: IntArray
    psum_reads: IntArray
    psum_writes: IntArray
    ofmap_writes: IntArray
    read_bytes: IntArray
    write_bytes: IntArray
    fill_bytes: IntArray
    row_operand_stays: npt.NDArray[np.bool_]
    col_operand_stays: npt.NDArray[np.bool_]
    held_bytes: IntArray

    @property
    def total_bytes(self) -> IntArray:
        """Bytes read and written."""
        return self.read_bytes + self.write_bytes


def dram_traffic(
    dataflow: npt.ArrayLike,
    rows: npt.ArrayLike,
    cols: npt.ArrayLike,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    ifmap_elements: npt.ArrayLike,
    ifmap_bits: npt.ArrayLike,
    filter_bits: npt.ArrayLike,
    ofmap_bits: npt.ArrayLike,
    accumulator_bits: npt.ArrayLike,
    ifmap_sram_bytes: npt.ArrayLike,
    filter_sram_bytes: npt.ArrayLike,
    ofmap_sram_bytes: npt.ArrayLike,
    shared_sram_bytes: npt.ArrayLike | None = None,
    together: npt.ArrayLike = 1,
    grid: FoldGrid | None = None,
) -> DramTraffic:
    """Return the DRAM traffic of `groups` products m x n x k (rules in the module's table).

    `ifmap_elements` counts the distinct ifmap elements any window touches, in all groups; operands are packed at
    their own width (bits), spilled partial sums travel at the accumulator's. Never below the compulsory traffic (each
    distinct word once), and never more with a larger SRAM. The fill is the first fold's stationary tile and the first
    streamed word of each port; it does not depend on the SRAMs, since a larger buffer need not be full before the
    array starts. `shared_sram_bytes` replaces the three SRAMs by one (rule: `_fitting`). `together` groups share a fold, and the
    SRAM. `grid` is the `fold_grid` of the same arguments, where the caller has it.
    """
    grid = grid or fold_grid(dataflow, rows, cols, m, n, k)
    P = np.asarray(together, dtype=np.int64)
    M, N, K, G, I = (np.asarray(size, dtype=np.int64) for size in (m, n, k, groups, ifmap_elements))  # noqa: E741
    a_bits, w_bits, y_bits, sum_bits = (
        np.asarray(width, dtype=np.int64) for width in (ifmap_bits, filter_bits, ofmap_bits, accumulator_bits)
    )
    is_os, is_ws, is_is = (grid.dataflow == flow for flow in Dataflow)
    first_cols = np.minimum(np.asarray(cols, dtype=np.int64), grid.col_size)

    filter_passes = np.where(is_os, grid.row_folds, np.where(is_ws, 1, grid.col_folds))
    block_pixels = np.where(is_os, grid.first_rows, first_cols)  # ws has no blocks of pixels
    filter_set = K * np.where(is_os, first_cols, N)  # what os reuses over row folds, is over column folds
    needs = {
        "ifmap": _bytes(-(-I // G) * P, a_bits),
        "block": _bytes(K * block_pixels * P, a_bits) * ~is_ws,
        "filter": _bytes(filter_set, w_bits) * (filter_passes > 1),
        "ofmap": _bytes(grid.streamed * first_cols, sum_bits) * (~is_os & (grid.row_folds > 1)),
    }
    separate = (ifmap_sram_bytes, filter_sram_bytes, ofmap_sram_bytes)
    fits = _fitting(needs, separate, shared_sram_bytes)
    ifmap_fits, block_fits, filter_fits, psums_fit = fits
    held = needs["ofmap"] * psums_fit
    if shared_sram_bytes is not None:
        held = held + needs["ifmap"] * ifmap_fits + needs["block"] * block_fits + needs["filter"] * filter_fits
    ifmap_passes = np.where(is_is, 1, grid.col_folds)
    ifmap_reads = np.where(ifmap_fits, I, ifmap_passes * _ifmap_pass(grid, G * M * K, I, block_fits))
    filter_reads = G * K * N * np.where(filter_fits, 1, filter_passes)
    spills = G * M * N * np.where(psums_fit, 0, grid.row_folds - 1)
    outputs = G * M * N + np.zeros_like(spills)

    tile = grid.first_rows * first_cols
    first_ifmap = np.minimum(I, P * np.where(is_is, tile, grid.first_rows))
    first_filter = P * np.where(is_os, first_cols, np.where(is_ws, tile, grid.first_rows))
    return DramTraffic(
        ifmap_reads=ifmap_reads,
        filter_reads=filter_reads,
        psum_reads=spills,
        psum_writes=spills,
        ofmap_writes=outputs,
        read_bytes=_bytes(ifmap_reads, a_bits) + _bytes(filter_reads, w_bits) + _bytes(spills, sum_bits),
        write_bytes=_bytes(outputs, y_bits) + _bytes(spills, sum_bits),
        fill_bytes=_bytes(first_ifmap, a_bits) + _bytes(first_filter, w_bits),
        row_operand_stays=np.where(is_is, filter_fits, ifmap_fits),
        col_operand_stays=filter_fits,
        held_bytes=held,
    )


def _fitting(
    needs: dict[str, IntArray], separate: tuple[npt.ArrayLike, ...], shared: npt.ArrayLike | None
) -> list[npt.NDArray[np.bool_]]:
    """Return which sets of words stay: whole ifmap, its block of pixels, filter set, sums; `needs` in bytes, in this order.

    Each is held against half of its own SRAM. A shared SRAM gives its half to the smallest set first, then to the next
    smallest, ties in the order above, until one does not fit. So a larger SRAM keeps what a smaller one keeps, and more.
    """
    if shared is None:
        a_half, w_half, y_half = (np.asarray(size, dtype=np.int64) // 2 for size in separate)
        halves = {"ifmap": a_half, "block": a_half, "filter": w_half, "ofmap": y_half}
        return [need <= halves[name] for name, need in needs.items()]
    half = np.asarray(shared, dtype=np.int64) // 2
    sizes = list(needs.values())
    fits = []
    for i, need in enumerate(sizes):
        taken = need
        for j, other in enumerate(sizes):
            if j != i:
                # Sets beyond the SRAM are cut before adding, so that no sum leaves 64 bits.
                taken = taken + np.where((other <= need) if j < i else (other < need), np.minimum(other, half + 1), 0)
        fits.append((need <= half) & (taken <= half))
    return fits


def _ifmap_pass(
    grid: FoldGrid, window_words: IntArray, elements: IntArray, block_fits: npt.NDArray[np.bool_]
) -> IntArray:
    """Return the ifmap words a pass over all pixels fetches when the ifmap does not stay: at least each element."""
    # ws: each row fold fetches no more than the whole ifmap and no more than its own window words. Sweeps beyond the
    # window words are cut before multiplying, so that nothing larger than window_words + elements is ever formed.
    sweeps = np.minimum(grid.row_folds, window_words // elements + 1)
    by_sweeps = np.minimum(window_words, sweeps * elements)
    by_blocks = np.where(block_fits, elements, window_words)
    words: IntArray = np.maximum(elements, np.where(grid.dataflow == Dataflow.WS, by_sweeps, by_blocks))
    return words


def dram_bytes_per_cycle(dram_bytes_per_s: npt.ArrayLike, clock_hz: npt.ArrayLike) -> FloatArray:
    """Return the bytes DRAM can move in one cycle of the array.

    Raises:
        InputError: unless both are positive (DRAM may be infinitely fast).

    """
    speed, clock = np.asarray(dram_bytes_per_s, dtype=np.float64), np.asarray(clock_hz, dtype=np.float64)
    if not (speed > 0).all():
        raise InputError(f"dram_bytes_per_s must be above 0, got {speed.min()}")
    if not ((clock > 0) & np.isfinite(clock)).all():
        raise InputError(f"clock_hz must be above 0 and finite, got {clock.min()}")
    return speed / clock


def whole_cycles(cycles: npt.NDArray[np.float64], bytes_per_cycle: npt.NDArray[np.float64]) -> IntArray:
    """Return cycles of waiting for DRAM rounded up to whole ones.

    Raises:
        InputError: if they do not fit int64.

    """
    whole = np.ceil(cycles)
    if not (whole < 2.0**63).all():
        raise InputError(
            f"a DRAM bandwidth of {bytes_per_cycle.min()} bytes per cycle gives stalls beyond 64-bit integers"
        )
    result: IntArray = whole.astype(np.int64)
    return result


def _bytes(words: IntArray, bits: IntArray) -> IntArray:
    """Return the bytes of words packed at a width of `bits`."""
    return -(-(words * bits) // 8)
