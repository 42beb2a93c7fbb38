"""Where the weights of a layer are zero, as the array meets them: which rows and channels go, and whether N of every M are kept.

The pattern is that of the integer codes that the hardware holds (rounding makes more zeros), or of the values themselves for
formats that are not integer. A network that only declares a sparsity (a table of shapes) has no pattern: one is drawn at random
at its density, seeded by the layer's name, and everything that follows from it is marked `statistics`.
"""

import zlib
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import ConvAttributes, Op
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import NumberFormat, Sparsity, Structure
from picojoule.sim.integer_weights import integer_weights
from picojoule.sim.ir import Layer, OperandKind
from picojoule.sim.weights import FILL_NOTE

Mask = NDArray[np.bool_]
_LARGEST_DRAWN = 1 << 28
_DENSITY_SLACK = 0.01
"""By how much weights may be denser than declared: a declared density is rounded."""


@dataclass(frozen=True, slots=True)
class ZeroPattern:
    """Which weights are kept: `live` [groups, n, k]; k runs over input channels, then over the `window` of each.

    `basis` is `data`, or `statistics` where the pattern was drawn at random.
    """

    live: Mask
    window: int
    basis: str

    @property
    def kept(self) -> int:
        """Weights that are not zero."""
        return int(np.count_nonzero(self.live))

    @property
    def density(self) -> float:
        """Share of weights that are not zero."""
        return self.kept / self.live.size

    def without_dead(self, *, outputs: bool = True) -> "ZeroPattern":
        """Return the pattern without groups, output channels (unless told) and reduction positions that are wholly zero.

        All groups have one size on the array: where they differ, shorter ones are filled up with zeros. A layer of zeros
        only keeps one weight, so that it is still run.
        """
        groups = [(g[g.any(1)] if outputs else g)[:, g.any(0)] for g in self.live if g.any()]
        if not groups:
            return ZeroPattern(np.zeros((1, 1, 1), dtype=np.bool_), 1, self.basis)
        n, k = (max(g.shape[axis] for g in groups) for axis in (0, 1))
        live = np.zeros((len(groups), n, k), dtype=np.bool_)
        for i, g in enumerate(groups):
            live[i, : g.shape[0], : g.shape[1]] = g
        return ZeroPattern(live, 1, self.basis)

    @property
    def useful_sizes(self) -> int:
        """Weights of the groups without their dead rows and columns, before they are filled up to one size."""
        return sum(int(g.any(1).sum()) * int(g.any(0).sum()) for g in self.live)

    @property
    def input_share(self) -> float:
        """Share of input channels that any weight reads."""
        by_channel = self.live.reshape(*self.live.shape[:2], -1, self.window)
        return float(by_channel.any(axis=(1, 3)).mean())

    def broken_groups(self, n: int, m: int) -> tuple[int, int]:
        """Return (groups of m input channels with more than n weights kept, all such groups), at each window position."""
        counts = self._group_counts(self.live, m)
        return int(np.count_nonzero(counts > n)), counts.size

    def kept_positions(self, n: int, m: int) -> int:
        """Return the length of the reduction when n of every m input channels are kept (fewer where a group has fewer alive).

        The largest of all groups of a grouped convolution.
        """
        alive = self._group_counts(np.asarray(self.live.any(1, keepdims=True)), m)  # [groups, 1, blocks, window]
        return int(np.minimum(alive, n).sum(axis=(1, 2, 3)).max())

    def _group_counts(self, live: Mask, m: int) -> NDArray[np.int64]:
        groups, rows, k = live.shape
        channels = live.reshape(groups, rows, k // self.window, self.window)
        padded = np.pad(channels, ((0, 0), (0, 0), (0, -channels.shape[2] % m), (0, 0)))
        counts: NDArray[np.int64] = padded.reshape(groups, rows, -1, m, self.window).sum(3, dtype=np.int64)
        return counts


def zero_pattern(layer: Layer, form: NumberFormat, *, random_weights: bool = False) -> ZeroPattern | None:
    """Return where a layer's weight (operand 1) is zero in a format; None where it is no parameter.

    A declared density below that of the weights (a plan for weights that are not there yet) is taken for what will be, drawn
    at random. `random_weights` (a network's own `weights` says so) allows a declared N:M to be taken likewise.

    Raises:
        InputError: if the weights break the N:M pattern they are declared to have.
        UnsupportedError: if a pattern of more than 2^28 weights would have to be drawn.

    """
    if len(layer.operands) < 2 or layer.operands[1].kind is not OperandKind.PARAMETER:
        return None
    operand, window = layer.operands[1], window_of(layer)
    declared = operand.sparsity
    if operand.weights is None or operand.weights.note == FILL_NOTE:
        return ZeroPattern(_drawn(layer, declared, window), window, "statistics")
    values = integer_weights(layer, form) if form.is_integer else _matrices(layer, np.asarray(operand.weights.array()))
    pattern = ZeroPattern(values != 0, window, "data")
    if declared.structure is Structure.N_OF_M and declared.n and declared.m:
        broken, blocks = pattern.broken_groups(declared.n, declared.m)
        if broken and not random_weights:
            raise InputError(
                f"layer '{layer.name}': its weights are declared {declared} but {broken} of {blocks} groups of {declared.m} "
                f"input channels keep more than {declared.n}; prune it to {declared} or declare it unstructured"
            )
    elif declared.structure is Structure.DENSE or pattern.density <= declared.density + _DENSITY_SLACK:
        broken = 0
    else:
        broken = 1
    return ZeroPattern(_drawn(layer, declared, window), window, "statistics") if broken else pattern


def window_of(layer: Layer) -> int:
    """Return the reduction positions of one input channel: the window of a convolution, 1 elsewhere."""
    a = layer.attributes
    if isinstance(a, ConvAttributes) and not a.transposed:
        return prod(layer.operands[1].shape[2:])
    return 1


def matrix_shape(layer: Layer) -> tuple[int, int, int]:
    """Return (groups, n, k) of a layer's weight matrices."""
    a, shape = layer.attributes, layer.operands[1].shape
    if isinstance(a, ConvAttributes):
        rows, columns = shape[0] // a.groups, prod(shape[1:])
        return (a.groups, columns, rows) if a.transposed else (a.groups, rows, columns)
    if layer.op is Op.MATMUL:
        return prod(shape[:-2]), shape[-1], shape[-2]
    return 1, shape[0], prod(shape[1:])


def _matrices(layer: Layer, values: NDArray[Any]) -> NDArray[Any]:
    """Return values of a weight's shape as [groups, n, k]."""
    a = layer.attributes
    groups, n, k = matrix_shape(layer)
    turned = layer.op is Op.MATMUL or (isinstance(a, ConvAttributes) and a.transposed)
    return values.reshape(groups, k, n).swapaxes(1, 2) if turned else values.reshape(groups, n, k)


def _drawn(layer: Layer, sparsity: Sparsity, window: int) -> Mask:
    """Return a pattern of the declared structure and density, drawn at random."""
    groups, n, k = shape = matrix_shape(layer)
    if prod(shape) > _LARGEST_DRAWN:
        raise UnsupportedError(
            f"layer '{layer.name}': a pattern for {prod(shape)} weights that only have a declared density would be drawn, at "
            f"most 2^28 are; load it with weights, or declare it dense"
        )
    generator = np.random.default_rng((zlib.crc32(layer.name.encode()), zlib.crc32(b"zero pattern")))
    if sparsity.structure is Structure.ROW:
        alive = generator.permuted(np.arange(n) < round(n * sparsity.density))
        return np.broadcast_to(alive[None, :, None], shape).copy()
    if sparsity.structure is Structure.COLUMN:
        alive = generator.permuted(np.arange(k // window) < round(k // window * sparsity.density))
        return np.broadcast_to(np.repeat(alive, window)[None, None, :], shape).copy()
    if sparsity.structure is Structure.N_OF_M and sparsity.n and sparsity.m:
        channels = k // window
        blocks = np.arange(-(-channels // sparsity.m) * sparsity.m).reshape(-1, sparsity.m) % sparsity.m < sparsity.n
        drawn = generator.permuted(np.broadcast_to(blocks, (groups, n, window, *blocks.shape)), axis=-1)
        cut = drawn.reshape(groups, n, window, -1)[..., :channels]
        return np.ascontiguousarray(cut.swapaxes(2, 3)).reshape(shape)
    if sparsity.structure is Structure.BLOCK and sparsity.block:
        tall, wide = sparsity.block
        coarse = generator.random((groups, -(-n // tall), -(-k // wide))) < sparsity.density
        return np.repeat(np.repeat(coarse, tall, axis=1), wide, axis=2)[:, :n, :k].copy()
    return generator.random(shape) < sparsity.density
