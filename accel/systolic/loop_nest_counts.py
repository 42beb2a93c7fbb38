"""How often each memory of a loop nest is accessed, per operand, and how many steps it takes: exact, in closed form.

Rules (the conventions of Timeloop's nest analysis but for its same-move rule, see tests/reference/timeloop/README.md):

- A step of a level is one setting of all temporal loops further out. At each step an instance holds the box of what its own
  loops and those inside touch. What is new is fetched: what was not there one busy step before (memory is one tile deep).
- At one step, PEs whose new words are the same set are served by one access a word, other PEs separately.
- Outputs: what comes in later goes out; PEs that hold the same set are added on the way. The first visit of a sum reads nothing.
- Registers feed one MAC each: one access per operand and MAC.

Why a closed form: between two steps one loop advances, those further in restart. Whether and where a PE is busy, and what it
held before, is decided dim by dim, so a step's sets are products over the operand's axes, and steps that only move the sets
differ in nothing. An advance of one loop so has, per dim, at most two kinds: full blocks, and the ragged last one. All
integers are Python's, so nothing wraps. The slow twin that walks words is in the tests.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from picojoule.accel.systolic.loop_nest import DIMS, OPERANDS, LoopNest
from picojoule.accel.systolic.loop_nest_sets import Option, Runs, Span, all_words, distinct_words, shared
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError, unknown_choice

HALOS = ("overlap", "refetch", "touched")
"""What is fetched where the next ifmap tile overlaps the last: `overlap` the rest of its box, `refetch` all of it, `touched`
the rest of the words that are really used (with a stride longer than the filter a box has others)."""
LARGEST_RUNS = 100_000
"""Separate spans of one tile along an axis, with halo `touched`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Words of one operand at one level: `reads` of it, `fills` from further out, `updates` from further in."""

    level: str
    operand: str
    reads: int
    fills: int
    updates: int
    tile_words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NestCounts:
    """Accesses per level and operand, steps (cycles of an array that multiplies at every step), MACs, share of PEs used."""

    accesses: tuple[Access, ...]
    cycles: int
    macs: int
    utilization: float

    def of(self, level: str, operand: str) -> Access:
        """Return the accesses of an operand at a level that keeps it."""
        return next(a for a in self.accesses if (a.level, a.operand) == (level, operand))


def count(nest: LoopNest, halo: str = "overlap") -> NestCounts:
    """Return the access counts of a mapping; registers in total over all PEs.

    Raises:
        InputError: for an unknown `halo` (see `HALOS`).
        InfeasibleError: where tiles do not fit a level's capacity.
        UnsupportedError: for halo `touched` on tiles of more than 100,000 separate rows or columns.

    """
    if halo not in HALOS:
        raise InputError(unknown_choice("halo", halo, HALOS))
    cycles = math.prod(_steps(_walk(nest, len(nest.levels) - 1, dim)) for dim in DIMS)
    accesses = [found for operand in OPERANDS for found in _operand(nest, operand, halo)]
    for level, capacity in nest.capacity_words.items():
        needed = sum(access.tile_words for access in accesses if access.level == level)
        if needed > capacity:
            raise InfeasibleError(
                f"the tiles in {level} take {needed} words but it holds {capacity}; move a loop that makes them large further out"
            )
    order = list(nest.levels)
    return NestCounts(
        accesses=tuple(sorted(accesses, key=lambda a: order.index(a.level))),
        cycles=cycles,
        macs=nest.macs,
        utilization=nest.macs / (cycles * nest.rows * nest.cols),
    )


def _operand(nest: LoopNest, operand: str, halo: str) -> Iterator[Access]:
    """Yield the accesses of each level that keeps an operand; what leaves one goes to the next."""
    keepers = nest.keepers(operand)
    moves = [_moves(nest, nest.levels.index(child), operand, halo) for child in keepers[1:]]
    sums = operand == "Outputs"
    for place, level in enumerate(keepers):
        index = nest.levels.index(level)
        asked = moves[place][0] if place < len(moves) else nest.macs  # by the MACs: one access each
        filled = moves[place - 1][1] if place else 0
        first = _first_visits(nest, index) if sums else 0
        yield Access(
            level=level,
            operand=operand,
            reads=asked - first,
            fills=filled - first if place else 0,
            updates=asked if sums else 0,
            tile_words=_tile_words(nest, index, operand),
        )


# --- one dim --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Walk:
    """How a dim is cut for one level: its size, indices of a tile, PEs it is spread over, temporal loops further out.

    A loop is (place in the nest, indices of one of its steps, its steps).
    """

    size: int
    tile: int
    spread: int
    loops: tuple[tuple[int, int, int], ...]

    @property
    def stride(self) -> int:
        """Indices of one step: the tiles of all PEs."""
        return self.tile * self.spread


def _walk(nest: LoopNest, child: int, dim: str) -> _Walk:
    """Return the walk of a dim for the level with index `child`."""
    tile = spread = weight = 1
    loops = []
    for place, loop in reversed(list(enumerate(nest.loops))):
        if loop.dim != dim:
            continue
        if nest.depth(loop) >= child and (loop.axis is None or child < len(nest.levels) - 1):
            tile *= loop.factor
        elif loop.axis is not None:
            spread *= loop.factor
        else:
            loops.append((place, weight, loop.factor))
        weight *= loop.factor
    return _Walk(nest.sizes[dim], tile, spread, tuple(reversed(loops)))


def _steps(walk: _Walk) -> int:
    """Return the steps of a dim in time, those inside the tile one after the other."""
    full, rest = divmod(walk.size, walk.stride)
    return full * walk.tile + min(walk.tile, rest)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Steps of a dim that are alike: how many, and what each busy PE holds then and held before (None: nothing)."""

    times: int
    held: tuple[tuple[Span, Span | None], ...]


def _kinds(walk: _Walk, place: int | None) -> list[_Kind]:
    """Return the kinds of steps at which the loop at `place` of the nest advances; None: the first step of all."""
    if place is None:
        return [_Kind(1, _held(walk, 0, walk.stride, None))]
    outer = [loop for loop in walk.loops if loop[0] <= place]
    if not outer:
        return [_Kind(1, _held(walk, 0, walk.size, 0))]
    at, width, factor = outer[-1]
    blocks = -(-walk.size // width)
    ragged = walk.size % width > 0
    if at < place:  # another dim's loop advances: each block starts anew from its own end
        full = blocks - ragged
        found = [_Kind(full, _held(walk, 0, width, 0))] if full else []
        return found + ([_Kind(1, _held(walk, blocks - 1, width, blocks - 1))] if ragged else [])
    moves = (blocks - 1) - (blocks - 1) // factor  # block x follows x - 1 unless a loop further out advances too
    last = ragged and (blocks - 1) % factor > 0
    found = [_Kind(moves - last, _held(walk, 1, width, 0))] if moves > last else []
    return found + ([_Kind(1, _held(walk, blocks - 1, width, blocks - 2))] if last else [])


def _held(walk: _Walk, block: int, width: int, before: int | None) -> tuple[tuple[Span, Span | None], ...]:
    """Return what busy PEs hold at the start of a block of `width` indices, and held at the end of block `before`."""
    found: list[tuple[Span, Span | None]] = []
    for pe in range(walk.spread):
        offset = pe * walk.tile
        start = block * width + offset
        if start >= walk.size:
            break  # idle, like all PEs behind
        then: Span | None = None
        if before is not None:
            ends = max(1, -(-(before + 1) * width // walk.stride)) - 1, (walk.size - 1 - offset) // walk.stride
            then = _span(walk, min(ends) * walk.stride + offset)
        found.append((_span(walk, start), then))
    return tuple(found)


def _span(walk: _Walk, start: int) -> Span:
    return start, min(start + walk.tile, walk.size)


# --- one level ------------------------------------------------------------------------------------------------------------


def _moves(nest: LoopNest, child: int, operand: str, halo: str) -> tuple[int, int]:
    """Return the words asked of the level outside `child` (one for PEs that share), and those that reach its instances."""
    walks = {dim: _walk(nest, child, dim) for dim in DIMS}
    places = sorted(loop[0] for walk in walks.values() for loop in walk.loops if loop[2] > 1)
    axes = _axes(operand, nest.stride)
    requests = deliveries = 0
    for place in (None, *places):
        kinds = {dim: _kinds(walk, place) for dim, walk in walks.items()}
        steps = pe_steps = 1
        for dim in set(DIMS) - set(OPERANDS[operand]):
            steps *= sum(kind.times for kind in kinds[dim])
            pe_steps *= sum(kind.times * len(kind.held) for kind in kinds[dim])
        choices = [_axis_kinds([kinds[dim] for dim in dims], stride, halo) for dims, stride in axes]
        for chosen in product(*choices):
            times = math.prod(times for times, _ in chosen)
            options = [some for _, some in chosen]
            requests += steps * times * distinct_words(options)
            deliveries += pe_steps * times * all_words(options)
    return requests, deliveries


def _axes(operand: str, stride: tuple[int, int]) -> list[tuple[str, int]]:
    """Return the dims that make each axis of an operand, with the stride of the first."""
    if operand == "Inputs":
        return [("N", 1), ("C", 1), ("PR", stride[0]), ("QS", stride[1])]
    return [(dim, 1) for dim in OPERANDS[operand]]


def _axis_kinds(kinds: Sequence[list[_Kind]], stride: int, halo: str) -> list[tuple[int, list[Option]]]:
    """Return (how often, options of all busy PEs) of the steps of one axis."""
    found = []
    for some in product(*kinds):
        options = []
        for spans in product(*(kind.held for kind in some)):
            now = _runs([span[0] for span in spans], stride, halo)
            before = [span[1] for span in spans]
            held = _runs([span for span in before if span is not None], stride, halo) if None not in before else ()
            known = shared(now, held) if halo != "refetch" else now if now == held else ()
            options.append((now, known))
        found.append((math.prod(kind.times for kind in some), options))
    return found


def _runs(spans: Sequence[Span], stride: int, halo: str) -> Runs:
    """Return the indices along an axis; for two dims, those of outputs (moved by the stride) plus those of the filter."""
    if len(spans) == 1:
        return (spans[0],)
    (p0, p1), (r0, r1) = spans
    if halo != "touched" or r1 - r0 >= stride:
        return ((p0 * stride + r0, (p1 - 1) * stride + r1),)
    if p1 - p0 > LARGEST_RUNS:
        raise UnsupportedError(
            f"halo 'touched' follows at most {LARGEST_RUNS} separate rows or columns of a tile, got {p1 - p0}; use 'overlap'"
        )
    return tuple((p * stride + r0, p * stride + r1) for p in range(p0, p1))


# --- tiles ----------------------------------------------------------------------------------------------------------------


def _first_visits(nest: LoopNest, level: int) -> int:
    """Return the distinct outputs each instance of a level ever holds, summed over instances."""
    total = 1
    for dim in DIMS:
        walk = _walk(nest, level, dim)
        full, rest = divmod(walk.size, walk.stride)
        if dim in OPERANDS["Outputs"]:
            total *= walk.size
        else:
            total *= walk.spread if full else -(-rest // walk.tile)
    return total


def _tile_words(nest: LoopNest, level: int, operand: str) -> int:
    """Return the words of an operand's largest tile in one instance of a level; of Inputs the box."""
    extent = {}
    for dim in OPERANDS[operand]:
        walk = _walk(nest, level, dim)
        extent[dim] = min(walk.tile, walk.size)
    return math.prod(
        extent[dims] if len(dims) == 1 else (extent[dims[0]] - 1) * stride + extent[dims[1]]
        for dims, stride in _axes(operand, nest.stride)
    )
