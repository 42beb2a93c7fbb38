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
from collections.abc import Mapping
from dataclasses import dataclass, field

from picojoule.accel.systolic.loop_nest_reading import DIMS, LARGEST, OPERANDS, Loop, read
from picojoule.sim.errors import InputError, unknown_choice

__all__ = ["DIMS", "OPERANDS", "Loop", "LoopNest"]

LARGEST_SPREAD = 1 << 18
"""PEs that spatial loops take together, at most: each is looked at."""


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
    def from_dict(cls, given: Mapping[str, object]) -> "LoopNest":
        """Return the mapping that a dictionary (of a YAML or JSON file) describes; keys as in the module's example.

        Instead of `mapping` a list `nest` of {level, kind, axis, dim, factor, last} may be given, outermost first; instead of
        `gemm` a `workload` {N, K, C, P, Q, R, S, stride_h, stride_w}. Sizes follow from the loops; those given must agree.
        A spatial loop of `nest` has an axis (X: columns, Y: rows) and no level.

        Raises:
            InputError: for an unknown key, dim, level or operand, a value of the wrong type, statements that exclude each
                other, a loop out of order, sizes that disagree, or spatial loops that do not fit the array.
            UnsupportedError: for padding or dilation.

        """
        said = read(given)
        nest = cls(
            rows=said.rows,
            cols=said.cols,
            levels=said.levels,
            loops=said.loops,
            stride=said.stride,
            keep=said.keep,
            capacity_words=said.capacity_words,
        )
        _check_loops(nest)
        sizes = nest.sizes
        for dim, size in said.sizes:
            if sizes[dim] != size:
                raise InputError(f"the loops of {dim} make {sizes[dim]}, but the workload has {dim} = {size}")
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
    if used["X"] * used["Y"] > LARGEST_SPREAD:
        raise InputError(f"spatial loops must take at most {LARGEST_SPREAD} PEs together, got {used['X'] * used['Y']}")
    for dim, size in nest.sizes.items():
        if size > LARGEST:
            raise InputError(f"the loops of {dim} make a size above {LARGEST}")
