"""Stalls of a systolic array behind one DRAM bus: the pipeline of its folds, in closed form over classes of folds.

The SRAMs are double-buffered: while fold s runs, the bus moves the batch of step s, and step s + 1 begins when both are
done:

    t(s + 1) - t(s) = max(C_s, bus time of (D_s + B_{s+1} + W_s))

| part | what                                                                                                              |
| ---- | ----------------------------------------------------------------------------------------------------------------- |
| C_s  | compute cycles of fold s (`timing`; with overlap: until the next fold may stream)                                    |
| D_s  | words that stream into fold s: operands that stay on chip are among them in their first pass only; spilled sums      |
| B_s  | the stationary tile of fold s (ws: filter, is: ifmap), which must be there before fold s begins                      |
| W_s  | ws, is: results and spilled sums that stream out of fold s; os: the tile of results that fold s - 1 drained          |

Before the first fold the bus fills the first stationary tile and the first streamed word of each port; after the last fold
it stores what is left (os: the last tile of results; ws and is: a last word of each port). Nothing hides these two.

The bus moves a batch in whole bursts and waits the DRAM latency once, because a batch is asked for when its step begins: the
latency shows where the batch takes longer than the fold. Within a step the array takes words as the bus brings them.

A layer's traffic (`traffic`) is spread over its folds in proportion to their rows and columns. Folds of one class (first,
inner, last but one and last row fold; the same of column folds; first and last group) take equally long, so that a layer of
any length costs some fifteen terms. Groups that share folds (`timing.packed_groups`), and single-fold groups generally, are
like column folds of which nothing is shared. `event_twin` walks the same text fold by fold and burst by burst.

Left out: the flush of the array after a last word that came late (`event_twin.strict_cycles` bounds it), refresh, row misses
and turn-around of the DRAM.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.dram_bus import NOISE, Bus, BusTerms, bus_cycles, real
from picojoule.accel.systolic.fold_classes import FoldCycles, Folds, class_cycles
from picojoule.accel.systolic.timing import Dataflow, FloatArray, FoldGrid, IntArray
from picojoule.accel.systolic.traffic import DramTraffic, whole_cycles

__all__ = ["Bus", "Words", "stall_cycles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Bits of a word on the bus by operand (real numbers where words carry metadata), and bytes read beside the operands."""

    ifmap_bits: npt.ArrayLike
    filter_bits: npt.ArrayLike
    ofmap_bits: npt.ArrayLike
    accumulator_bits: npt.ArrayLike
    other_read_bytes: npt.ArrayLike = 0


def stall_cycles(
    traffic: DramTraffic,
    grid: FoldGrid,
    cols: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
    *,
    bus: Bus,
    words: Words,
    together: npt.ArrayLike = 1,
    overlap_load: npt.ArrayLike = False,
    overlap_drain: npt.ArrayLike = False,
    stretch: npt.ArrayLike = 1.0,
) -> IntArray:
    """Return the cycles the array waits for DRAM, [layers, designs] or what broadcasts to it.

    `grid` are the folds that are timed (`timing.fold_grid`), `groups` how many products there are, `together` how many share
    a fold. Bytes beside the operands (biases) come with the first row fold of their columns. `stretch` is the layer's compute
    cycles over those of `timing.fold_cycles`, where they differ (skipped zeros, steps that wait for the vector unit): every fold
    takes so much longer. More bandwidth or a larger SRAM never adds a stall.

    Raises:
        InputError: if a count of cycles would not fit int64.

    """
    folds = Folds.of(grid, cols, groups, together)
    cycles = class_cycles(folds, grid, overlap_load, overlap_drain).times(real(stretch))
    loads = _loads(traffic, folds, grid.dataflow, words, 8.0 * real(bus.burst_bytes))
    shapes = [
        folds.rows,
        folds.groups,
        cycles.ff,
        cycles.very_last,
        loads.first_row.first,
        loads.inner_row.inner,
        loads.tile_ff,
    ]
    terms = bus.terms
    one_design = terms.size == 1 and all(array.ndim == 2 and array.shape[1] == 1 for array in shapes)
    waits = _Waits(terms, loads, one_design)
    waits.add_first_rows(loads, cycles, folds)
    waits.add_inner_rows(loads, cycles, folds)
    waits.add_last_rows(loads, cycles, folds)
    return whole_cycles(waits.cycles - NOISE, real(bus.bytes_per_cycle))


# --- loads --------------------------------------------------------------------------------------------------------------


class _ByColumn(NamedTuple):
    """A quantity of folds in the first, an inner and the last column fold."""

    first: FloatArray
    inner: FloatArray
    last: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loads:
    """Bursts (real numbers) that folds move, by class; what a first row fold has is marked so.

    `first_row`, `inner_row`, `last_row`: D and the spilled and streamed part of W; `drained_`: results that os drained, of the
    last row fold (before the first of the next column fold) and of a full one, by full and last columns. `tile_` as FoldCycles.
    """

    first_row: _ByColumn
    inner_row: _ByColumn
    last_row: _ByColumn
    drained_wrap: FloatArray
    drained_wrap_last: FloatArray
    tile_ff: FloatArray
    tile_fl: FloatArray
    tile_lf: FloatArray
    tile_ll: FloatArray
    first_words: FloatArray
    last_words: FloatArray
    last_store: FloatArray


def _loads(traffic: DramTraffic, folds: Folds, dataflow: IntArray, words: Words, burst_bits: FloatArray) -> _Loads:
    f, is_os, is_is = folds, dataflow == Dataflow.OS, dataflow == Dataflow.IS
    unit = 1.0 / burst_bits
    a_unit, w_unit, y_unit = (real(b) * unit for b in (words.ifmap_bits, words.filter_bits, words.ofmap_bits))
    per_group = 1.0 / f.groups
    ifmap, filters = traffic.ifmap_reads * (a_unit * per_group), traffic.filter_reads * (w_unit * per_group)
    results = traffic.ofmap_writes * (y_unit * per_group)
    spill = traffic.psum_reads * (real(words.accumulator_bits) * unit * per_group) / np.maximum(1.0, f.rows - 1.0)
    other = real(words.other_read_bytes) * (8.0 * unit * per_group)

    by_row, by_col = np.where(is_is, filters, ifmap), np.where(is_os, filters, 0.0)
    tile = np.where(is_os, 0.0, np.where(is_is, ifmap, filters))
    stays = traffic.row_operand_stays & ~f.single
    each = np.where(f.single, f.full_col_share, 1.0 / f.cols)
    inner = np.where(stays, 0.0, each)
    share = _ByColumn(np.where(stays, 1.0, each), inner, np.where(f.single, f.last_col_share, inner))
    col_0 = np.where(traffic.col_operand_stays, by_col, by_col / f.rows)
    col_i = np.where(traffic.col_operand_stays, 0.0, col_0)

    drained = np.where(is_os, results, 0.0)
    through = results - drained
    one_row = f.rows == 1
    full = by_row * f.full_row_share
    edge = by_row * f.last_row_share
    at_first = col_0 + other + spill + np.where(one_row, through, 0.0)
    at_inner = col_i + 2.0 * spill + drained * f.full_row_share
    at_last = at_inner - spill + through

    def of(by_rows: FloatArray, by_cols: FloatArray) -> _ByColumn:
        over_full, over_last = by_cols * f.full_col_share, by_cols * f.last_col_share
        return _ByColumn(
            by_rows * share.first + over_full, by_rows * share.inner + over_full, by_rows * share.last + over_last
        )

    tile_f, tile_l = tile * f.full_row_share, tile * f.last_row_share
    first_row = of(full, at_first)
    row_words = np.minimum(full * share.first, np.where(is_is, w_unit, a_unit) * f.full_rows)
    col_words = np.minimum(col_0 * f.full_col_share, w_unit * f.full_cols)
    last_through = through * f.last_col_share
    last_words = np.minimum(last_through, y_unit * f.last_cols)
    wrap = drained * f.last_row_share
    return _Loads(
        first_row=first_row,
        inner_row=of(full, at_inner),
        last_row=of(edge, at_last),
        drained_wrap=wrap * f.full_col_share,
        drained_wrap_last=wrap * f.last_col_share,
        tile_ff=tile_f * f.full_col_share,
        tile_fl=tile_f * f.last_col_share,
        tile_lf=tile_l * f.full_col_share,
        tile_ll=tile_l * f.last_col_share,
        first_words=row_words + col_words,
        last_words=last_words,
        last_store=wrap * f.last_col_share + last_words,
    )


# --- waits --------------------------------------------------------------------------------------------------------------


class _Waits:
    """Adds up over the classes of folds how much longer the bus takes than the fold.

    Classes are counted one after the other, so that memory holds one at a time; of a single design (arrays of one column) side
    by side, because there numpy's calls are what takes time.
    """

    def __init__(self, bus: BusTerms, loads: "_Loads", one_design: bool) -> None:
        self._bus = bus
        self._columns: list[tuple[FloatArray, FloatArray, FloatArray]] | None = [] if one_design else None
        exposed = bus_cycles(loads.tile_ff + loads.first_words, bus) + bus_cycles(loads.last_store, bus)
        self._cycles: FloatArray = exposed

    @property
    def cycles(self) -> FloatArray:
        """The first fill, the last store and all waits added so far."""
        if not self._columns:
            return self._cycles
        folds, bursts, compute = (np.concatenate(column, axis=1) for column in zip(*self._columns, strict=True))
        return np.asarray(self._cycles + self._of(folds, bursts, compute).sum(axis=1, keepdims=True))

    def _of(self, folds: FloatArray, bursts: FloatArray, compute: FloatArray) -> FloatArray:
        waits: FloatArray = np.maximum(bus_cycles(bursts, self._bus) - compute, 0.0) * folds
        return waits

    def add(self, folds: FloatArray, bursts: FloatArray, compute: FloatArray) -> None:
        """Add so many folds that move `bursts` while they compute."""
        if self._columns is None:
            self._cycles = self._cycles + self._of(folds, bursts, compute)
        else:
            self._columns.append((folds, bursts, compute))

    def add_first_rows(self, x: _Loads, c: FoldCycles, f: Folds) -> None:
        """Add first row folds; the next fold is in the next row, or of one row in the next column or group."""
        one, two = f.rows == 1, f.rows == 2
        under_f = np.where(two, x.tile_lf, x.tile_ff)
        under_l = np.where(two, x.tile_ll, x.tile_fl)
        beside = np.where(f.cols >= 3, x.tile_ff, np.where(f.cols == 2, x.tile_fl, 0.0))
        start = x.first_row.first + np.where(one, beside, under_f)
        only = one & (f.cols == 1)
        self.add(
            np.ones_like(f.rows),
            start - x.first_words - np.where(only, x.last_words, 0.0),
            np.where(only, c.very_last, c.ff),
        )
        inner = x.first_row.inner + x.drained_wrap
        self.add(f.groups * f.inner_cols, inner + np.where(one, x.tile_ff, under_f), c.ff)
        self.add(f.groups * f.before_last, inner + np.where(one, x.tile_fl, under_f), c.ff)
        last = x.first_row.last + x.drained_wrap
        at_end = np.where(one, c.very_last, c.fl)
        self.add(f.edge_cols, last + np.where(one, -x.last_words, under_l), at_end)
        if (f.groups > 1).any():
            self.add(f.groups - 1, start + x.drained_wrap_last, c.ff)
            self.add((f.groups - 1) * f.edge_cols, last + np.where(one, x.tile_ff, under_l), c.fl)

    def add_inner_rows(self, x: _Loads, c: FoldCycles, f: Folds) -> None:
        """Add the row folds between first and last; the one before the last has a smaller tile to wait for."""
        others = np.maximum(0.0, f.cols - 2)
        for folds, tile_f, tile_l in (
            (np.maximum(0.0, f.rows - 3), x.tile_ff, x.tile_fl),
            (np.asarray(f.rows >= 3, dtype=np.float64), x.tile_lf, x.tile_ll),
        ):
            if folds.any():
                count = f.groups * folds
                self.add(count, x.inner_row.first + tile_f, c.ff)
                self.add(count * others, x.inner_row.inner + tile_f, c.ff)
                self.add(count * f.edge_cols, x.inner_row.last + tile_l, c.fl)

    def add_last_rows(self, x: _Loads, c: FoldCycles, f: Folds) -> None:
        """Add last row folds, where there is more than one; the next fold starts the next column or group."""
        here = np.asarray(f.rows >= 2, dtype=np.float64)
        if not here.any():
            return
        lone = f.cols == 1
        beside = np.where(f.cols >= 3, x.tile_ff, np.where(lone, 0.0, x.tile_fl))
        count = f.groups * here
        ends = np.where(lone, -x.last_words, beside)
        self.add(here, x.last_row.first + ends, np.where(lone, c.very_last, c.lf))
        self.add(count * f.inner_cols, x.last_row.inner + x.tile_ff, c.lf)
        self.add(count * f.before_last, x.last_row.inner + x.tile_fl, c.lf)
        self.add(here * f.edge_cols, x.last_row.last - x.last_words, c.very_last)
        if (f.groups > 1).any():
            between = (f.groups - 1) * here
            self.add(between, x.last_row.first + np.where(lone, x.tile_ff, beside), c.lf)
            self.add(between * f.edge_cols, x.last_row.last + x.tile_ff, c.ll)
