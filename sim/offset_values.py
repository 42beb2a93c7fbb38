"""What is known of a value that only serves offsets: per element, which channel of one source it follows, and in which range.

An abstract value keeps, per element, scale and shift of `scale * source + shift` (where no clip bites), its range and whether
it is a whole number. Axes along which all elements are alike have size 1, so that maps of any size cost the same. Understood:
clip, maximum and minimum with constants, round, sums and products with constants, casts, reshapes, transposes, broadcasts,
concatenation, and the straight-through x + (round(x) - x). Whatever else makes a value is a source.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind as Ak
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import Op
from picojoule.sim.ir import Layer, Network, Operand, OperandKind

Floats = NDArray[np.float64]
_RANGES = {Ak.SIGMOID: (0.0, 1.0), Ak.HARD_SIGMOID: (0.0, 1.0), Ak.TANH: (-1.0, 1.0), Ak.SOFTSIGN: (-1.0, 1.0)}
"""Ranges of functions that bound what they return: nothing an engine does while it reads, but known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Arrays that broadcast to one shape; `source` None: constant. `channel` is -1 where an element follows none."""

    source: str | None
    channel: Floats
    scale: Floats
    shift: Floats
    low: Floats
    high: Floats
    whole: NDArray[np.bool_]

    def mapped(self, change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> "Known":
        """Return the value with its arrays moved (reshaped, transposed)."""
        fields = ("channel", "scale", "shift", "low", "high", "whole")
        return replace(self, **{name: change(getattr(self, name)) for name in fields})  # type: ignore[arg-type]

    def spread(self, shape: Sequence[int]) -> "Known":
        """Return the value with every array broadcast to a shape."""
        return self.mapped(lambda a: np.broadcast_to(a, tuple(shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape all arrays broadcast to."""
        arrays = (self.channel, self.scale, self.shift, self.low, self.high, self.whole)
        return np.broadcast_shapes(*(a.shape for a in arrays))


class Values:
    """The values of one network that lead to offsets; `layers` holds those between a source and a value asked for."""

    def __init__(self, network: Network) -> None:
        self.makers: Mapping[str, Layer] = {r.name: layer for layer in network.layers for r in layer.results}
        self.layers: dict[str, Layer] = {}

    def known(self, operand: Operand) -> Known:
        """Return what is known of an operand; one that nothing is known of is its own source."""
        if operand.kind is not OperandKind.ACTIVATION:
            return self._constant(operand)
        maker = self.makers.get(operand.name)
        made = None if maker is None else self._made(maker)
        if made is None:
            return _source(operand, maker)
        assert maker is not None
        self.layers[maker.name] = maker
        return made

    def _constant(self, operand: Operand) -> Known:
        if operand.weights is None:
            return _source(operand, None)
        values = np.asarray(operand.weights.array(), dtype=np.float64)
        for axis in range(values.ndim):
            first = values.take([0], axis)
            if values.shape[axis] > 1 and (values.strides[axis] == 0 or np.array_equal(values, first + 0 * values)):
                values = first
        nothing = np.zeros((1,) * values.ndim)
        return Known(
            source=None, channel=nothing - 1, scale=nothing, shift=values, low=values, high=values,
            whole=values == np.rint(values),
        )  # fmt: skip

    def _made(self, layer: Layer) -> Known | None:
        """Return what is known of a layer's result; None where it is no arithmetic of offsets."""
        a = layer.attributes
        if isinstance(a, at.ElementwiseAttributes) and a.kind is Ew.ADD and (inner := self._rounded(layer)) is not None:
            return inner
        if layer.op is Op.EXPAND:
            return self._expanded(layer)
        if layer.op is Op.RESHAPE:
            return self._reshaped(layer)
        if isinstance(a, at.TransposeAttributes):
            inner = self.known(layer.operands[0])
            return inner.spread(_padded(inner.shape, len(a.permutation))).mapped(lambda v: v.transpose(a.permutation))
        if isinstance(a, at.ConcatAttributes):
            return self._joined(layer, a.axis)
        if isinstance(a, at.ActivationAttributes) and a.kind in (Ak.CLIP, Ak.RELU):
            low = 0.0 if a.kind is Ak.RELU else -inf if a.alpha is None else a.alpha
            high = inf if a.kind is Ak.RELU or a.beta is None else a.beta
            return _clipped(self.known(layer.operands[0]), np.float64(low), np.float64(high))
        if isinstance(a, at.ElementwiseAttributes):
            return self._computed(layer, a.kind)
        return None

    def _rounded(self, add: Layer) -> Known | None:
        """Return round(x) for x + (round(x) - x), the straight-through form as it stands in a graph."""
        if len(add.operands) != 2:
            return None
        for x, difference in (add.operands, add.operands[::-1]):
            maker = self.makers.get(difference.name)
            a = None if maker is None else maker.attributes
            if maker is None or not isinstance(a, at.ElementwiseAttributes) or a.kind is not Ew.SUB:
                continue
            if len(maker.operands) == 2 and maker.operands[1].name == x.name:
                self.layers[maker.name] = maker
                return self.known(maker.operands[0])
        return None

    def _computed(self, layer: Layer, kind: Ew) -> Known | None:
        x = layer.operands
        if kind in (Ew.ROUND, Ew.NEG, Ew.COPY, Ew.CAST):
            a = layer.attributes
            assert isinstance(a, at.ElementwiseAttributes)
            if kind is Ew.CAST and not (a.dtype or "float32").startswith("float"):
                return None
            inner = self.known(x[0])
            if kind is Ew.ROUND:
                low, high = np.rint(inner.low), np.rint(inner.high)
                return replace(inner, low=low, high=high, whole=np.ones_like(inner.whole))
            return _scaled(inner, np.float64(-1)) if kind is Ew.NEG else inner
        if len(x) != 2 or kind not in (Ew.ADD, Ew.SUB, Ew.MUL, Ew.DIV, Ew.MAXIMUM, Ew.MINIMUM):
            return None
        fixed = [o.kind is not OperandKind.ACTIVATION and o.weights is not None for o in x]
        if fixed[0] == fixed[1]:
            return None
        constant, inner = self.known(x[fixed.index(True)]).shift, self.known(x[fixed.index(False)])
        match kind:
            case Ew.ADD:
                return _shifted(inner, constant)
            case Ew.SUB:
                return _shifted(inner, -constant) if fixed[1] else _shifted(_scaled(inner, np.float64(-1)), constant)
            case Ew.MUL:
                return _scaled(inner, constant)
            case Ew.DIV:
                return _scaled(inner, 1 / constant) if fixed[1] and np.all(constant != 0) else None
            case Ew.MAXIMUM:
                return _clipped(inner, constant, np.float64(inf))
            case _:
                return _clipped(inner, np.float64(-inf), constant)

    def _expanded(self, layer: Layer) -> Known:
        """Return a broadcast value: alike along every axis it was stretched over."""
        inner, rank = self.known(layer.operands[0]), len(layer.results[0].shape)
        return inner.spread(_padded(inner.shape, rank))

    def _reshaped(self, layer: Layer) -> Known | None:
        before, after = layer.operands[0].shape, layer.results[0].shape
        inner = self.known(layer.operands[0])
        steps = _groups(before, after)
        if steps is None:
            return None
        shape = _padded(inner.shape, len(before))
        full: list[int] = []
        made: list[int] = []
        for taken, given in steps:
            alike = all(shape[i] == 1 for i in taken)
            full += [1 if alike else before[i] for i in taken]
            made += [1 if alike else after[i] for i in given]
        return inner.spread(shape).spread(full).mapped(lambda v: v.reshape(made))

    def _joined(self, layer: Layer, axis: int) -> Known | None:
        parts = [self.known(o) for o in layer.operands]
        sources = {p.source for p in parts if p.source is not None}
        if len(sources) > 1:
            return None
        rank = len(layer.results[0].shape)
        shapes = [list(_padded(p.shape, rank)) for p in parts]
        common = [max(s[i] for s in shapes) for i in range(rank)]
        spread = []
        for part, operand in zip(parts, layer.operands, strict=True):
            spread.append(part.spread([operand.shape[axis] if i == axis else n for i, n in enumerate(common)]))
        return Known(
            source=next(iter(sources), None),
            channel=np.concatenate([p.channel for p in spread], axis),
            scale=np.concatenate([p.scale for p in spread], axis),
            shift=np.concatenate([p.shift for p in spread], axis),
            low=np.concatenate([p.low for p in spread], axis),
            high=np.concatenate([p.high for p in spread], axis),
            whole=np.concatenate([p.whole for p in spread], axis),
        )


def _source(operand: Operand, maker: Layer | None) -> Known:
    """Return a value as its own source: channels lie on the second axis."""
    shape = [n if i == 1 else 1 for i, n in enumerate(operand.shape)]
    low, high = -inf, inf
    if maker is not None and isinstance(maker.attributes, at.ActivationAttributes):
        low, high = _RANGES.get(maker.attributes.kind, (low, high))
    nothing = np.zeros((1,) * len(shape))
    channel = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    return Known(
        source=operand.name, channel=channel, scale=nothing + 1, shift=nothing, low=nothing + low, high=nothing + high,
        whole=nothing > 0,
    )  # fmt: skip


def _shifted(x: Known, by: Floats) -> Known:
    return replace(x, shift=x.shift + by, low=x.low + by, high=x.high + by, whole=x.whole & (by == np.rint(by)))


def _scaled(x: Known, by: Floats | np.float64) -> Known:
    with np.errstate(invalid="ignore"):
        ends = [np.where(by == 0, 0.0, by * end) for end in (x.low, x.high)]
    whole = x.whole & (by == np.rint(by)) | (by == 0)
    low, high = np.minimum(*ends), np.maximum(*ends)
    return replace(x, scale=x.scale * by, shift=x.shift * by, low=low, high=high, whole=whole)


def _clipped(x: Known, low: Floats | np.float64, high: Floats | np.float64) -> Known:
    ends = [np.minimum(np.maximum(end, low), high) for end in (x.low, x.high)]
    fits = [~np.isfinite(end) | (end == np.rint(end)) for end in (low, high)]
    return replace(x, low=ends[0], high=ends[1], whole=x.whole & fits[0] & fits[1])


def _padded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    return (*[1] * (rank - len(shape)), *shape)


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Return which axes of a reshape belong together: the smallest runs with equal numbers of elements."""
    steps: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        taken, given, left, right = [], [], 1, 1
        if i < len(before):
            taken, left, i = [i], before[i], i + 1
        if j < len(after) and not (taken and left == 1 and after[j] != 1):
            given, right, j = [j], after[j], j + 1
        while left != right:
            if left < right and i < len(before):
                taken, left, i = [*taken, i], left * before[i], i + 1
            elif j < len(after):
                given, right, j = [*given, j], right * after[j], j + 1
            else:
                return None
        steps.append((taken, given))
    return steps
