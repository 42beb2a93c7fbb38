"""What mappings cost: words and cycles of each, as array functions over mappings.

DRAM: a tile comes again whenever its place in the loops has changed; memory is one tile deep. So an operand that a loop does
not index is read once for each pass of that loop, if a loop that does index it runs inside. Partial sums leave at the
accumulator's width, and come back, when a loop over m or n of more than one pass runs inside that over k. A convolution's
ifmap tile is fetched whole: the overlap of two tiles is read twice.

Time: as `pipeline`, with tiles instead of folds. A step takes max(C_s, bus time of (B_{s+1} + W_{s-1})): B all that the next
tile still lacks, W the results or sums of the tile before, if it has left. The first fill and the last store are exposed; a
tile's folds take `timing.fold_cycles`, one tile after the other.

Tiles of a class take equally long: of a loop the first pass, the inner ones, the last but one and the last, so 4^3 classes.
The order is data, so that all orders share an array.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.dram_bus import NOISE, Bus
from picojoule.accel.systolic.mapping_space import ORDERS, Mappings, Problem, ifmap_tile
from picojoule.accel.systolic.port_accesses import port_accesses
from picojoule.accel.systolic.timing import Dataflow, FloatArray, FoldGrid, IntArray, fold_cycles, fold_grid

Flags = npt.NDArray[np.bool_]
_DIMS = "mnk"


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedCounts:
    """Words, accesses and cycles of mappings, all repeats, [mappings]; names as in `array_pricing.Counts`."""

    compute: IntArray
    ifmap_reads: IntArray
    filter_reads: IntArray
    ofmap_writes: IntArray
    psum_reads: IntArray
    dram_ifmap: IntArray
    dram_filter: IntArray
    dram_psums: IntArray
    dram_read_bytes: IntArray
    dram_write_bytes: IntArray
    ifmap_accesses: IntArray
    filter_accesses: IntArray
    psum_accesses: IntArray
    output_accesses: IntArray
    shifts: FloatArray
    tiles: FloatArray


@dataclass(frozen=True, slots=True)
class _Loops:
    """Loops of mappings: per dimension passes and sizes of a full and the last tile; `inside[x, y]`: y runs inside x."""

    passes: dict[str, IntArray]
    full: dict[str, IntArray]
    last: dict[str, IntArray]
    inside: dict[tuple[str, str], Flags]

    @classmethod
    def of(cls, p: Problem, maps: Mappings) -> "_Loops":
        sizes, full = {"m": p.m, "n": p.n, "k": p.k}, {"m": maps.m, "n": maps.n, "k": maps.k}
        passes = {d: -(-sizes[d] // full[d]) for d in _DIMS}
        place = {d: np.array([order.index(d) for order in ORDERS])[maps.order] for d in _DIMS}
        return cls(
            passes,
            full,
            {d: sizes[d] - (passes[d] - 1) * full[d] for d in _DIMS},
            {(x, y): place[y] > place[x] for x in _DIMS for y in _DIMS if x != y},
        )

    def again(self, idle: str) -> IntArray:
        """Return how often a loop brings the tiles that it does not index: its passes, if one of the others runs inside."""
        others = [d for d in _DIMS if d != idle]
        moved = [self.inside[idle, d] & (self.passes[d] > 1) for d in others]
        return np.where(moved[0] | moved[1], self.passes[idle], 1)

    def sum_of(self, dim: str, full: IntArray, last: IntArray) -> IntArray:
        """Return the sum over the passes of a loop of what a full and the last tile have."""
        made: IntArray = (self.passes[dim] - 1) * full + last
        return made


def count(p: Problem, maps: Mappings) -> MappedCounts:
    """Return words, accesses and compute cycles of mappings."""
    x, G, y = _Loops.of(p, maps), p.repeats, p.m * p.n
    row_dim, col_dim, _ = _array_dims(p.dataflow)
    folds = {
        d: x.sum_of(d, -(-x.full[d] // pes), -(-x.last[d] // pes)) for d, pes in ((row_dim, p.rows), (col_dim, p.cols))
    }
    is_os = p.dataflow is Dataflow.OS
    # Read once per column fold, row fold, or pass of the tiles: as in `traffic.sram_counts`, summed over tiles.
    ifmap_reads = p.m * p.k * (x.passes["n"] if p.dataflow is Dataflow.IS else folds["n"])
    filter_reads = p.n * p.k * (x.passes["m"] if p.dataflow is Dataflow.WS else folds["m"])
    sums = y * (x.passes["k"] if is_os else folds["k"])
    ifmap = x.sum_of("m", ifmap_tile(p, x.full["m"], p.k), ifmap_tile(p, x.last["m"], p.k)) * x.again("n")
    filters, spills = p.n * p.k * x.again("m"), y * (x.again("k") - 1)
    read_bits = ifmap * p.ifmap_bits + filters * p.filter_bits + spills * p.accumulator_bits
    write_bits = y * p.ofmap_bits + spills * p.accumulator_bits
    return MappedCounts(
        ifmap_reads=G * ifmap_reads,
        filter_reads=G * filter_reads,
        ofmap_writes=G * sums,
        psum_reads=G * (sums - y),
        dram_ifmap=G * ifmap,
        dram_filter=G * filters,
        dram_psums=G * spills,
        dram_read_bytes=-(-(G * read_bits) // 8),
        dram_write_bytes=-(-(G * write_bits) // 8),
        **_over_tiles(p, x),
    )


def _over_tiles(p: Problem, x: _Loops) -> dict[str, npt.NDArray[Any]]:
    """Return compute cycles and the accesses of the array's edge, added up over the tiles."""
    names = ("compute", "ifmap_accesses", "filter_accesses", "psum_accesses", "output_accesses")
    found: dict[str, npt.NDArray[Any]] = {name: np.zeros(len(x.full["m"]), dtype=np.int64) for name in names}
    shifts, words = np.zeros(len(x.full["m"])), np.zeros(len(x.full["m"]))
    for last in product((False, True), repeat=3):
        tiles = np.full(len(shifts), p.repeats)
        for d, end in zip(_DIMS, last, strict=True):
            tiles = tiles * (1 if end else x.passes[d] - 1)
        if not tiles.any():
            continue
        grid, cycles = _tile(p, x, last)
        edge = port_accesses(grid, p.rows)
        found["compute"] += tiles * cycles
        found["ifmap_accesses"] += tiles * edge.ifmap_reads
        found["filter_accesses"] += tiles * edge.filter_reads
        found["psum_accesses"] += tiles * (edge.psum_writes + (0 if last[2] else edge.outputs))
        found["output_accesses"] += tiles * (edge.outputs if last[2] else 0)
        shifts, words = shifts + tiles * edge.shifts, words + tiles * edge.tiles
    return {**found, "shifts": shifts, "tiles": words}


def _array_dims(dataflow: Dataflow) -> tuple[str, str, str]:
    """Return which dimension lies along rows and columns, and which streams."""
    return {Dataflow.OS: ("m", "n", "k"), Dataflow.WS: ("k", "n", "m"), Dataflow.IS: ("k", "m", "n")}[dataflow]


def _tile(p: Problem, x: _Loops, last: tuple[bool, ...]) -> tuple[FoldGrid, IntArray]:
    """Return the folds and the compute cycles of a tile that is in the last pass of some loops."""
    m, n, k = (x.last[d] if end else x.full[d] for d, end in zip(_DIMS, last, strict=True))
    flow, rows, cols = int(p.dataflow), p.rows, p.cols
    grid = fold_grid(flow, rows, cols, m, n, k)
    return grid, fold_cycles(flow, rows, cols, m, n, k, 1, p.overlap_load, p.overlap_drain, grid=grid)


# --- time ---------------------------------------------------------------------------------------------------------------


def stall_cycles(p: Problem, maps: Mappings) -> FloatArray:
    """Return the cycles that the array waits for DRAM, all repeats, whole numbers."""
    x = _Loops.of(p, maps)
    cycles = {last: _tile(p, x, last)[1].astype(np.float64) for last in product((False, True), repeat=3)}
    tiles = _Tiles(p, x)
    begin = {d: x.full[d] for d in _DIMS}
    end = {d: x.last[d] for d in _DIMS}
    waits = p.bus.cycles(tiles.inputs(begin) + p.other_bytes / p.repeats) + p.bus.cycles(
        tiles.results(end, np.ones(1, dtype=bool))
    )
    for classes in product(range(4), repeat=3):
        members = np.ones(len(maps.m))
        for d, kind in zip(_DIMS, classes, strict=True):
            members = members * _members(x.passes[d], kind)
        if members.any():
            where = np.flatnonzero(members)
            some = tiles if len(where) == len(members) else _Tiles(p, _taken(x, where))
            late = some.batch_cycles(p.bus, classes) - cycles[classes[0] == 3, classes[1] == 3, classes[2] == 3][where]
            waits[where] += members[where] * np.maximum(0.0, late)
    return np.asarray(p.repeats * np.ceil(waits - NOISE))


def _members(passes: IntArray, kind: int) -> IntArray:
    """Return how many passes of a loop are its first, inner ones, last but one, last; a single pass is the first."""
    if kind == 0:
        return np.ones_like(passes)
    if kind == 1:
        return np.maximum(0, passes - 3)
    return np.asarray(passes >= (3 if kind == 2 else 2), dtype=np.int64)


def _taken(x: _Loops, where: npt.NDArray[np.intp]) -> _Loops:
    def of(sizes: dict[str, IntArray]) -> dict[str, IntArray]:
        return {d: column[where] for d, column in sizes.items()}

    return _Loops(of(x.passes), of(x.full), of(x.last), {pair: column[where] for pair, column in x.inside.items()})


class _Tiles:
    """Bytes that tiles bring and leave."""

    def __init__(self, p: Problem, x: _Loops) -> None:
        self._p, self._x = p, x

    def inputs(self, size: dict[str, IntArray]) -> FloatArray:
        """Return the bytes of both operands' tiles."""
        return self._ifmap(size) + self._filter(size)

    def _ifmap(self, size: dict[str, IntArray]) -> FloatArray:
        return _times(ifmap_tile(self._p, size["m"], size["k"]), self._p.ifmap_bits / 8)

    def _filter(self, size: dict[str, IntArray]) -> FloatArray:
        return _times(size["n"] * size["k"], self._p.filter_bits / 8)

    def results(self, size: dict[str, IntArray], final: Flags) -> FloatArray:
        """Return the bytes of a tile of results, or of sums that are not final."""
        return _times(size["m"] * size["n"], np.where(final, self._p.ofmap_bits / 8, self._p.accumulator_bits / 8))

    def batch_cycles(self, bus: Bus, classes: tuple[int, ...]) -> FloatArray:
        """Return the bus time of the step of a tile whose place in the loops over m, n, k is of these classes."""
        kinds = dict(zip(_DIMS, classes, strict=True))
        x = self._x
        first = {d: np.full(len(x.passes[d]), kinds[d] == 0) for d in _DIMS}
        last = {d: (x.passes[d] == 1) if kinds[d] == 0 else first[d] | (kinds[d] == 3) for d in _DIMS}
        return bus.cycles(self._following(kinds, first, last) + self._leaving(kinds, first, last))

    def _following(self, kinds: dict[str, int], first: dict[str, Flags], last: dict[str, Flags]) -> FloatArray:
        """Return what the next tile lacks."""
        x, size, changed, moves = self._x, {}, {}, {}
        for d in _DIMS:
            moves[d] = _all_but(d, x.inside, last)
            next_is_last = {0: x.passes[d] == 2, 1: False, 2: True, 3: False}[kinds[d]]
            here = x.last[d] if kinds[d] == 3 else x.full[d]
            after = np.where(last[d], x.full[d], np.where(next_is_last, x.last[d], x.full[d]))
            size[d] = np.where(moves[d], after, here)
            changed[d] = moves[d] & (x.passes[d] > 1)
        resumed = np.where(moves["k"], ~last["k"], ~first["k"])  # its sums have left before
        left = (changed["m"] | changed["n"]) & resumed
        none = np.zeros(1, dtype=bool)
        total = (
            self._ifmap(size) * (changed["m"] | changed["k"])
            + self._filter(size) * (changed["n"] | changed["k"])
            + self.results(size, none) * left
        )
        return np.where(last["m"] & last["n"] & last["k"], 0.0, total)

    def _leaving(self, kinds: dict[str, int], first: dict[str, Flags], last: dict[str, Flags]) -> FloatArray:
        """Return the results or sums of the tile before, if it has left."""
        x, size, changed, moves = self._x, {}, {}, {}
        for d in _DIMS:
            moves[d] = _all_but(d, x.inside, first)
            here = x.last[d] if kinds[d] == 3 else x.full[d]
            size[d] = np.where(moves[d], np.where(first[d], x.last[d], x.full[d]), here)
            changed[d] = moves[d] & (x.passes[d] > 1)
        final = np.where(moves["k"], first["k"], last["k"])
        none_before = first["m"] & first["n"] & first["k"]
        return np.where(none_before | ~(changed["m"] | changed["n"]), 0.0, self.results(size, final))


def _times(words: IntArray, word_bytes: float | FloatArray) -> FloatArray:
    return np.asarray(words * word_bytes, dtype=np.float64)


def _all_but(d: str, inside: dict[tuple[str, str], Flags], ends: dict[str, Flags]) -> Flags:
    """Return where all loops inside d are at their end, so that d moves."""
    one, two = (other for other in _DIMS if other != d)
    return np.asarray((~inside[d, one] | ends[one]) & (~inside[d, two] | ends[two]))
