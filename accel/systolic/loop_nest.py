"""A fixed mapping of a convolution or matrix product onto memory levels and a PE array, as a loop nest a person writes.

`LoopNest.from_dict` takes what a YAML or JSON file holds; `count` (see `loop_nest_counts`) says how often each memory is
accessed per operand, and in how many steps. Example, a 32 x 32 x 32 product with stationary weights on 8 x 8 PEs:

    gemm: {m: 32, n: 32, k: 32}
    rows: 8
    cols: 8
    levels: [DRAM, GLB, REG]
    mapping: "DRAM: K4 C2 | GLB: C2 P32 | spatialY: C8 | spatialX: K8 | REG:"

Dims: N batch, K output channels, C input channels, P and Q output rows and columns, R and S filter rows and columns; a
product m x n x k is P = m, K = n, C = k. Operands: Weights[K, C, R, S], Inputs[N, C, P stride_h + R, Q stride_w + S],
Outputs[N, K, P, Q]; no padding, no dilation. `levels` stand from outer to inner; the last is the PEs' own and keeps every
operand. Loops of a level run above the tile of the next level in. Spatial loops lie just outside the last level. `P4/1` is a
loop of 4 steps whose last pass, when all loops of P further out are at their last step, has 1: how sizes that do not divide are
tiled.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picojoule.sim.errors import InputError, UnsupportedError, unknown_choice

DIMS = ("N", "K", "C", "P", "Q", "R", "S")
OPERANDS: dict[str, str] = {"Weights": "KCRS", "Inputs": "NCPQRS", "Outputs": "NKPQ"}
"""Each operand's dims."""
_KEYS = ("id", "workload", "gemm", "rows", "cols", "levels", "keep", "capacity_words", "mapping", "nest")
_STRIDES = ("stride_h", "stride_w")
_FIXED = {"dilation": 1, "pad": 0}
_LOOP = re.compile(r"([A-Z])(\d+)(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: the level it belongs to, its dim, its steps, those of its ragged last pass; `axis` X or Y when spatial."""

    level: str
    dim: str
    factor: int
    last: int
    axis: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNest:
    """A checked mapping; `loops` from outermost to innermost, `keep` says which operands each level stores.

    `capacity_words`: what an instance of a level holds, of all operands together; a level that is not named holds any number.
    """

    rows: int
    cols: int
    levels: tuple[str, ...]
    loops: tuple[Loop, ...]
    stride: tuple[int, int] = (1, 1)
    keep: Mapping[str, frozenset[str]] = field(default_factory=dict)
    capacity_words: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "LoopNest":
        """Return the mapping that a dictionary (of a YAML or JSON file) describes; keys as in the module's example.

        Instead of `mapping` a list `nest` of {level, kind, axis, dim, factor, last} may be given, outermost first; instead of
        `gemm` a `workload` {N, K, C, P, Q, R, S, stride_h, stride_w}. Sizes follow from the loops; those given must agree.

        Raises:
            InputError: for an unknown key, dim, level or operand, a loop out of order, sizes that disagree, or spatial loops
                that do not fit the array.
            UnsupportedError: for padding or dilation.

        """
        for key in given:
            if key not in _KEYS:
                raise InputError(unknown_choice("key of a loop nest", str(key), _KEYS))
        rows, cols = (_whole(key, given.get(key)) for key in ("rows", "cols"))
        levels = tuple(given.get("levels", ()))
        if len(levels) < 2 or len(set(levels)) < len(levels) or not all(isinstance(level, str) for level in levels):
            raise InputError(f"levels must be two or more different names from outer to inner, got {list(levels)}")
        loops = _listed(given["nest"]) if "nest" in given else _written(str(given.get("mapping", "")))
        nest = cls(
            rows=rows,
            cols=cols,
            levels=levels,
            loops=loops,
            stride=_strides(given.get("workload", {})),
            keep=_keep(given.get("keep", {}), levels),
            capacity_words=_capacity(given.get("capacity_words", {}), levels),
        )
        _check_loops(nest)
        _check_sizes(nest.sizes, given)
        return nest

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each dim, as its loops make it."""
        found = dict.fromkeys(DIMS, 0)
        for loop in self.loops:
            found[loop.dim] = found[loop.dim] * loop.factor + loop.last - 1
        return {dim: size + 1 for dim, size in found.items()}

    @property
    def macs(self) -> int:
        """Multiply-accumulates: the product of all sizes."""
        return math.prod(self.sizes.values())

    def depth(self, loop: Loop) -> int:
        """Return the index of the level a loop belongs to; spatial ones stand between the last two levels."""
        return self.levels.index(loop.level) if loop.axis is None else len(self.levels) - 1

    def keepers(self, operand: str) -> list[str]:
        """Return the levels that store an operand, outer to inner."""
        return [level for level in self.levels if operand in self.keep[level]]


def _written(text: str) -> tuple[Loop, ...]:
    """Return the loops of `LEVEL: K4 C2 | ... | spatialY: C8 | spatialX: K8 | REG:`."""
    loops = []
    for part in text.split("|"):
        level, colon, rest = part.strip().partition(":")
        if not colon:
            raise InputError(f"mapping: '{part.strip()}' must read 'LEVEL: K4 C2'")
        spatial = level.startswith("spatial")
        if spatial and level not in ("spatialX", "spatialY"):
            raise InputError(unknown_choice("spatial axis", level, ["spatialX", "spatialY"]))
        for word in rest.split():
            found = _LOOP.fullmatch(word)
            if found is None:
                raise InputError(f"mapping: '{word}' in {level} must be a dim and its steps, such as P4 or P4/1")
            dim, factor, last = found[1], int(found[2]), int(found[3] or found[2])
            loops.append(Loop("ARRAY" if spatial else level, dim, factor, last, level[-1] if spatial else None))
    return tuple(loops)


def _listed(entries: Sequence[Mapping[str, Any]]) -> tuple[Loop, ...]:
    loops = []
    for place, entry in enumerate(entries):
        where = f"nest[{place}]"
        unknown = set(entry) - {"level", "kind", "axis", "dim", "factor", "last"}
        if unknown:
            raise InputError(f"{where}: unknown key '{min(unknown)}'")
        kind = entry.get("kind", "temporal")
        if kind not in ("temporal", "spatial"):
            raise InputError(f"{where}: " + unknown_choice("kind", str(kind), ["temporal", "spatial"]))
        axis = entry.get("axis")
        if axis not in (("X", "Y") if kind == "spatial" else (None,)):
            raise InputError(
                f"{where}: axis must be X or Y for a spatial loop and absent for a temporal one, got {axis}"
            )
        factor = _whole(f"{where}: factor", entry.get("factor"))
        last = _whole(f"{where}: last", entry.get("last", factor))
        loops.append(Loop(str(entry.get("level", "ARRAY")), str(entry.get("dim")), factor, last, axis))
    return tuple(loops)


def _check_loops(nest: LoopNest) -> None:
    before = 0
    used = {"X": 1, "Y": 1}
    for loop in nest.loops:
        text = f"loop {loop.dim}{loop.factor}/{loop.last} of {loop.level}"
        if loop.dim not in DIMS:
            raise InputError(unknown_choice("dim of a loop", loop.dim, DIMS))
        if loop.axis is None and loop.level not in nest.levels:
            raise InputError(unknown_choice("level of a loop", loop.level, nest.levels))
        if not 1 <= loop.last <= loop.factor:
            raise InputError(f"{text}: last must be between 1 and the factor")
        place = 2 * nest.depth(loop) - (loop.axis is not None)
        if place < before:
            raise InputError(
                f"{text} stands inside a level further in; write loops from the outermost to the innermost"
            )
        before = place
        if loop.axis is not None:
            used[loop.axis] *= loop.factor
    for axis, limit, what in (("X", nest.cols, "columns"), ("Y", nest.rows, "rows")):
        if used[axis] > limit:
            raise InputError(f"spatial{axis} takes {used[axis]} PEs but the array has {limit} {what}")


def _check_sizes(sizes: Mapping[str, int], given: Mapping[str, Any]) -> None:
    workload = given.get("workload", {})
    for key, value in workload.items():
        if key in _FIXED and value != _FIXED[key]:
            raise UnsupportedError(f"a loop nest counts without padding and dilation, got {key} {value}")
        if key not in (*DIMS, *_STRIDES, *_FIXED) and not str(key).startswith("gemm_"):
            raise InputError(unknown_choice("key of workload", str(key), (*DIMS, *_STRIDES)))
    stated = {dim: workload[dim] for dim in DIMS if dim in workload}
    if "gemm" in given:
        if set(given["gemm"]) != {"m", "n", "k"}:
            raise InputError(f"gemm must have m, n and k, got {sorted(given['gemm'])}")
        stated |= dict.fromkeys(DIMS, 1)
        stated |= {"P": given["gemm"]["m"], "K": given["gemm"]["n"], "C": given["gemm"]["k"]}
    for dim, size in stated.items():
        if sizes[dim] != size:
            raise InputError(f"the loops of {dim} make {sizes[dim]}, but the workload has {dim} = {size}")


def _strides(workload: Mapping[str, Any]) -> tuple[int, int]:
    stride_h, stride_w = (_whole(key, workload.get(key, 1)) for key in _STRIDES)
    return stride_h, stride_w


def _keep(given: Mapping[str, Sequence[str]], levels: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Return what each level stores, all operands where nothing is said."""
    for level, operands in given.items():
        if level not in levels:
            raise InputError(unknown_choice("level in keep", str(level), levels))
        for operand in operands:
            if operand not in OPERANDS:
                raise InputError(unknown_choice("operand in keep", str(operand), list(OPERANDS)))
    keep = {level: frozenset(given.get(level, OPERANDS)) for level in levels}
    for level in (levels[0], levels[-1]):
        missing = set(OPERANDS) - keep[level]
        if missing:
            raise InputError(f"keep: {level} must hold every operand, it lacks {', '.join(sorted(missing))}")
    return keep


def _capacity(given: Mapping[str, object], levels: tuple[str, ...]) -> dict[str, int]:
    for level in given:
        if level not in levels:
            raise InputError(unknown_choice("level in capacity_words", str(level), levels))
    return {level: _whole(f"capacity_words: {level}", words) for level, words in given.items()}


def _whole(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{what} must be a whole number of at least 1, got {value}")
    return value
