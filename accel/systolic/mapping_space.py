"""The space of mappings of a product onto array and memories: tilings and loop orders.

A mapping cuts m x n x k into tiles that all fit half of their SRAMs, and walks the tiles in one of six loop orders ("mkn": m
outside, n inside). Within a tile the array runs its folds as `timing` says, with the tile's operands in SRAM. Groups (and
the samples of a convolution's batch) run one after the other.

A convolution's tile is whole rows of outputs and whole channels; its ifmap tile is the rows of pixels under its windows,
min(H, (rows - 1) stride + kernel), padding not deducted. What a mapping costs is in `mapping_cost`.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.dram_bus import Bus
from picojoule.accel.systolic.timing import Dataflow, IntArray

ORDERS = tuple("".join(order) for order in permutations("mnk"))
"""Loop orders, outermost first."""
ALL_SIZES = 16
"""A size up to this is cut in every way; a longer one in whole folds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One product on one design: sizes of a group, how often it runs, widths in bits, usable halves of the SRAMs in bytes.

    `m_unit` and `k_unit` are what a tile of m or k is a multiple of (a row of outputs; the elements of a kernel); `row_words` the
    ifmap elements of a row of pixels in one channel, `in_rows` its rows; `shared_half` replaces the three halves; `other_bytes`
    (biases) come with the first fill.
    """

    dataflow: Dataflow
    rows: int
    cols: int
    m: int
    n: int
    k: int
    repeats: int = 1
    m_unit: int = 1
    k_unit: int = 1
    stride: int = 1
    kernel: int = 1
    row_words: int = 1
    in_rows: int
    ifmap_bits: int
    filter_bits: int
    ofmap_bits: int
    accumulator_bits: int
    other_bytes: int = 0
    halves: tuple[int, int, int]
    shared_half: int | None = None
    overlap_load: bool = False
    overlap_drain: bool = False
    bus: Bus


class Mappings(NamedTuple):
    """Tile sizes and codes of `ORDERS`, [mappings]."""

    m: IntArray
    n: IntArray
    k: IntArray
    order: IntArray

    def take(self, index: npt.NDArray[np.intp]) -> "Mappings":
        """Return some of them."""
        return Mappings(*(column[index] for column in self))

    def text(self, i: int) -> str:
        """Return one as a person reads it."""
        return f"m {self.m[i]} n {self.n[i]} k {self.k[i]}, order {ORDERS[int(self.order[i])]}"


def tile_sizes(size: int, unit: int, step: int) -> list[int]:
    """Return the tile sizes of one dimension, all multiples of `unit` up to `size`, or it.

    Every one if there are at most ALL_SIZES; else those that hold whole multiples of `step` (PEs), of equal numbers of passes
    the smallest, and the exact size.
    """
    units = -(-size // unit)
    if units <= ALL_SIZES:
        return [min(size, count * unit) for count in range(1, units + 1)]
    counts = {min(units, -(-count * step // unit)) for count in range(1, -(-size // step) + 1)}
    by_passes: dict[int, int] = {}
    for count in sorted(counts, reverse=True):
        by_passes[-(-units // count)] = count  # the smallest comes last
    return sorted(min(size, count * unit) for count in {*by_passes.values(), units})


def fitting_mappings(problem: Problem) -> Mappings:
    """Return the mappings whose tiles fit the SRAMs; of orders that differ only in loops of one pass, the first."""
    p, (rows, cols) = problem, (problem.rows, problem.cols)
    steps = {Dataflow.OS: (rows, cols, rows), Dataflow.WS: (rows, cols, rows), Dataflow.IS: (cols, rows, rows)}
    m_step, n_step, k_step = steps[p.dataflow]
    sizes = (tile_sizes(p.m, p.m_unit, m_step), tile_sizes(p.n, 1, n_step), tile_sizes(p.k, p.k_unit, k_step))
    tm, tn, tk = (a.reshape(-1) for a in np.meshgrid(*(np.array(s, dtype=np.int64) for s in sizes), indexing="ij"))
    fits = _fits(p, tm, tn, tk)
    tm, tn, tk = tm[fits], tn[fits], tk[fits]
    trips = np.stack([-(-p.m // tm), -(-p.n // tn), -(-p.k // tk)])
    found = []
    for code, order in enumerate(ORDERS):
        dims = ["mnk".index(x) for x in order]
        outer, middle, inner = (trips[d] == 1 for d in dims)
        # A loop of one pass may stand anywhere: it is kept innermost, several of them in the order m, n, k.
        keep = (middle >= outer) & (inner >= middle)
        keep &= ~(outer & middle & (dims[0] > dims[1])) & ~(middle & inner & (dims[1] > dims[2]))
        place = np.flatnonzero(keep)
        found.append(Mappings(tm[place], tn[place], tk[place], np.full(len(place), code)))
    return Mappings(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def ifmap_tile(p: Problem, tm: npt.ArrayLike, tk: npt.ArrayLike) -> IntArray:
    """Return the distinct ifmap words of a tile: rows of pixels under its windows, in its channels."""
    out_rows = -(-np.asarray(tm, dtype=np.int64) // p.m_unit)
    in_rows = np.minimum(p.in_rows, np.minimum((out_rows - 1) * p.stride + p.kernel, out_rows * p.kernel))
    words: IntArray = in_rows * p.row_words * -(-np.asarray(tk, dtype=np.int64) // p.k_unit)
    return words


def packed_bytes(words: npt.ArrayLike, bits: int) -> IntArray:
    """Return the bytes of words packed at their width."""
    made: IntArray = -(-(np.asarray(words, dtype=np.int64) * bits) // 8)
    return made


def _fits(p: Problem, tm: IntArray, tn: IntArray, tk: IntArray) -> npt.NDArray[np.bool_]:
    """Return whether each tile fits half of its SRAM; results that must still be added to have the accumulator's width."""
    partial = (tk < p.k) | ((tk > p.rows) & (p.dataflow is not Dataflow.OS))
    ofmap = np.where(partial, packed_bytes(tm * tn, p.accumulator_bits), packed_bytes(tm * tn, p.ofmap_bits))
    sizes = (packed_bytes(ifmap_tile(p, tm, tk), p.ifmap_bits), packed_bytes(tk * tn, p.filter_bits), ofmap)
    if p.shared_half is not None:
        return np.asarray(sum(sizes) <= p.shared_half)
    fits = [size <= half for size, half in zip(sizes, p.halves, strict=True)]
    return np.asarray(fits[0] & fits[1] & fits[2])
