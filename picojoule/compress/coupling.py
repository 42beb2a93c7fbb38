"""Which channels must go together: analysis of a network's channel coupling on the IR.

Every index of every axis of every tensor gets a label; an operator makes labels equal where dropping one index forces
dropping another (a convolution's input channel and its filter's slice, both sides of a residual add, a channel and the
features it becomes when flattened). Labels that no operator lets go are frozen: network inputs and outputs, space, batch,
whatever is normalised, reduced or multiplied with another activation across. Frozen is the answer whenever an operator is
not understood: correctness first.

This is the dependency analysis of Fang et al. 2023 (DepGraph, arXiv:2301.12900) done per index instead of per layer.
Left out: attention heads, normalisation groups and layer norm (frozen).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import (
    MAC_OPS,
    ConcatAttributes,
    ConvAttributes,
    DeformConvAttributes,
    EmbeddingAttributes,
    NormAttributes,
    NormKind,
    Op,
    PadAttributes,
    PoolAttributes,
    ReduceAttributes,
    SliceAttributes,
    SoftmaxAttributes,
    SplitAttributes,
    TransposeAttributes,
)
from picojoule.sim.ir import Layer, Network, Operand, OperandKind

Labels = NDArray[np.int64]
Axes = tuple[Labels, ...]

FROZEN = -1
"""Group number of an index that is never dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Indices of one axis of a parameter, buffer or constant."""

    tensor: str
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Slices that only go together.

    `makers` are the layers with weights that produce these channels, `readers` those that take them in; `scales` are the
    batch-norm scales among the slices.
    """

    number: int
    slices: tuple[Slice, ...]
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    scales: tuple[Slice, ...]


@dataclass(frozen=True, kw_only=True)
class Coupling:
    """Group number of every index: `tensors` by parameter name, `values` by value name; `FROZEN` where none."""

    network: Network
    tensors: Mapping[str, Axes]
    values: Mapping[str, Axes]
    count: int

    def outputs_of(self, layer: Layer) -> Labels:
        """Return the group of each output channel of a layer with weights."""
        return self.values[layer.results[0].name][channel_axis(layer)]

    def inputs_of(self, layer: Layer) -> Labels:
        """Return the group of each input channel of a layer with weights."""
        return self.values[layer.operands[0].name][channel_axis(layer)]

    @cached_property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """All groups, by number (first appearance in the network)."""
        slices: list[list[Slice]] = [[] for _ in range(self.count)]
        for name, axes in self.tensors.items():
            for axis, labels in enumerate(axes):
                order = np.argsort(labels, kind="stable")
                starts = np.flatnonzero(np.diff(labels[order], prepend=FROZEN - 1))
                for indices in np.split(order, starts[1:]):
                    number = labels[indices[0]]
                    if number >= 0:
                        slices[number].append(Slice(tensor=name, axis=axis, indices=tuple(indices.tolist())))
        makers: list[list[str]] = [[] for _ in range(self.count)]
        readers: list[list[str]] = [[] for _ in range(self.count)]
        gammas: set[str] = set()
        for layer in self.network.layers:
            if weighted(layer):
                for found, labels in ((makers, self.outputs_of(layer)), (readers, self.inputs_of(layer))):
                    for number in np.unique(labels[labels >= 0]):
                        found[number].append(layer.name)
            if isinstance(layer.attributes, NormAttributes) and layer.attributes.kind is NormKind.BATCH:
                gammas.add(layer.operands[1].name)
        return tuple(
            ChannelGroup(
                number=i,
                slices=tuple(slices[i]),
                makers=tuple(makers[i]),
                readers=tuple(readers[i]),
                scales=tuple(s for s in slices[i] if s.tensor in gammas),
            )
            for i in range(self.count)
        )

    def keep_at_least(self, keep: NDArray[np.bool_], score: NDArray[np.float64], minimum: int) -> NDArray[np.bool_]:
        """Return `keep` with the best-scored groups revived until every axis keeps `minimum` indices (or all it has)."""
        result = keep.copy()
        if not self.count:
            return result
        for axes in self.tensors.values():
            for labels in axes:
                missing = min(minimum, len(labels)) - int(np.count_nonzero((labels < 0) | result[labels]))
                dropped = np.unique(labels[(labels >= 0) & ~result[labels]])
                for number in dropped[np.argsort(-score[dropped], kind="stable")]:
                    if missing <= 0:
                        break
                    result[number] = True
                    missing -= int(np.count_nonzero(labels == number))
        return result


def weighted(layer: Layer) -> bool:
    """Whether a layer multiplies with trained (or fixed) weights."""
    kinds = [o.kind is OperandKind.ACTIVATION for o in layer.operands[:2]]
    return layer.op in MAC_OPS and kinds == [True, False]


def channel_axis(layer: Layer) -> int:
    """Return the axis of a weighted layer's ifmap and ofmap that holds channels."""
    return 1 if layer.op in (Op.CONV, Op.DEFORM_CONV) else len(layer.results[0].shape) - 1


def channel_groups(network: Network) -> Coupling:
    """Return which channels of a network must be dropped together."""
    analysis = _Analysis(network)
    return analysis.coupling()


class _Analysis:
    """Labels of all axes and the union-find over them; label 0 is the frozen one."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.parent = [0]
        self.tensors: dict[str, Axes] = {}
        self.values: dict[str, Axes] = {r.name: _frozen_axes(r.shape) for r in network.inputs}
        for layer in network.layers:
            axes = [self.axes_of(o) for o in layer.operands]
            results = _RULES.get(layer.op, _unknown)(self, layer, axes)
            self.values.update((r.name, a) for r, a in zip(layer.results, results, strict=True))
        for name in network.outputs:
            self.freeze(*self.values[name])

    def axes_of(self, operand: Operand) -> Axes:
        """Return the labels of an operand; a parameter gets new ones when first met."""
        if operand.kind is OperandKind.ACTIVATION:
            return self.values[operand.name]
        held = self.tensors.get(operand.name)
        if held is None:
            held = tuple(self.fresh(size) for size in operand.shape)
            self.tensors[operand.name] = held
        elif tuple(len(a) for a in held) != operand.shape:  # one name for two shapes: nothing is known
            self.freeze(*held)
            held = _frozen_axes(operand.shape)
        return held

    def fresh(self, size: int) -> Labels:
        """Return new labels; an axis of one index cannot lose it and is frozen."""
        if size == 1:
            return np.zeros(1, dtype=np.int64)
        start = len(self.parent)
        self.parent.extend(range(start, start + size))
        return np.arange(start, start + size, dtype=np.int64)

    def find(self, label: int) -> int:
        """Return the representative of a label, shortening the path to it."""
        root = label
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[label] != root:
            self.parent[label], label = root, self.parent[label]
        return root

    def join(self, first: Labels, second: Labels) -> None:
        """Make labels equal, index by index; the lower one represents both, so frozen wins."""
        if first is second:
            return
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            p, q = self.find(a), self.find(b)
            if p != q:
                self.parent[max(p, q)] = min(p, q)

    def freeze(self, *axes: Labels) -> None:
        """Make labels frozen."""
        for labels in axes:
            self.join(labels, np.zeros_like(labels))

    def is_frozen(self, labels: Labels) -> bool:
        """Whether all labels are frozen as far as is known."""
        return all(self.find(label) == 0 for label in labels.tolist())

    def coupling(self) -> Coupling:
        """Return the finished analysis with groups numbered in order of appearance."""
        roots = np.array([self.find(i) for i in range(len(self.parent))], dtype=np.int64)
        found = np.unique(roots[1:])
        number = np.full(len(roots), FROZEN, dtype=np.int64)
        live = found[found != 0]
        number[live] = np.arange(len(live))
        of_label = number[roots]

        def final(held: Mapping[str, Axes]) -> dict[str, Axes]:
            return {name: tuple(of_label[a] for a in axes) for name, axes in held.items()}

        return Coupling(
            network=self.network, tensors=final(self.tensors), values=final(self.values), count=len(live)
        )


Rule = Callable[[_Analysis, Layer, Sequence[Axes]], list[Axes]]


def _frozen_axes(shape: Sequence[int]) -> Axes:
    return tuple(np.zeros(size, dtype=np.int64) for size in shape)


def _frozen_results(layer: Layer) -> list[Axes]:
    return [_frozen_axes(r.shape) for r in layer.results]


def _unknown(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    for axes in x:
        an.freeze(*axes)
    return _frozen_results(layer)


def _same(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    return [x[0]]


def _conv(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, ConvAttributes | DeformConvAttributes)
    channels, filters = x[0][1], x[1]
    an.freeze(x[0][0], *x[0][2:], *filters[2:])
    if isinstance(a, ConvAttributes) and a.transposed:
        out = _transposed_channels(an, a.groups, channels, filters)
    else:
        out = _grouped_channels(an, a.groups, channels, filters)
    rest = list(x[2:])
    if isinstance(a, DeformConvAttributes):
        for _ in range(1 + a.has_mask):
            an.freeze(*rest.pop(0))
        if a.offset_groups > 1:
            an.freeze(channels)
    for bias in rest:
        an.join(bias[0], out)
    frozen = _frozen_axes(layer.results[0].shape)
    return [(frozen[0], out, *frozen[2:])]


def _grouped_channels(an: _Analysis, groups: int, channels: Labels, filters: Axes) -> Labels:
    """Tie a convolution's channels to its filter [out, in / groups, ...] and return the output channels' labels.

    With one input channel a group (depthwise) a channel goes with its filters, and the number of groups falls. Otherwise
    all groups lose the channels of the same place in them, so that groups stay equal.
    """
    out, per_group = filters[0], len(filters[1])
    if groups == 1:
        an.join(filters[1], channels)
    elif per_group == 1:
        an.join(out, np.repeat(channels, len(out) // groups))
    else:
        an.join(channels, np.tile(filters[1], groups))
        an.join(out, np.tile(out[: len(out) // groups], groups))
        if len(out) == groups:
            an.freeze(out)
    return out


def _transposed_channels(an: _Analysis, groups: int, channels: Labels, filters: Axes) -> Labels:
    """Tie channels to a filter [in, out / groups, ...]; only plain and depthwise ones are understood."""
    an.join(filters[0], channels)
    if groups == 1:
        return filters[1]
    if groups == len(channels):
        an.freeze(filters[1])
        return np.repeat(channels, len(filters[1]))
    an.freeze(*filters[:2])
    return np.zeros(len(filters[1]) * groups, dtype=np.int64)


def _linear(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    an.join(x[1][1], x[0][-1])
    for bias in x[2:]:
        an.join(bias[0], x[1][0])
    return [(*x[0][:-1], x[1][0])]


def _matmul(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    if layer.operands[1].kind is OperandKind.ACTIVATION or len(x[1]) != 2:
        return _unknown(an, layer, x)
    if layer.operands[0].kind is not OperandKind.ACTIVATION:
        return _unknown(an, layer, x)
    an.join(x[1][0], x[0][-1])
    return [(*x[0][:-1], x[1][1])]


def _pool(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, PoolAttributes)
    rank = len(a.output_size or a.kernel)
    an.freeze(*x[0][-rank:])
    return [(*x[0][:-rank], *_frozen_axes(layer.results[0].shape[-rank:]))]


def _norm(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, NormAttributes)
    if a.kind in (NormKind.BATCH, NormKind.INSTANCE):
        for statistic in x[1:]:
            an.join(statistic[0], x[0][1])
        return [x[0]]
    normalised = x[0][-a.axes :] if a.kind in (NormKind.LAYER, NormKind.RMS) else (x[0][1],)
    an.freeze(*normalised, *(axis for axes in x[1:] for axis in axes))
    return [x[0]]


def _softmax(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, SoftmaxAttributes)
    an.freeze(x[0][layer.attributes.axis])
    return [x[0]]


def _elementwise(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    shape = layer.results[0].shape
    made = []
    for back in range(len(shape), 0, -1):
        size = shape[-back]
        spanning = [axes[-back] for axes in x if len(axes) >= back and len(axes[-back]) == size]
        for other in spanning[1:]:
            an.join(spanning[0], other)
        made.append(spanning[0] if size > 1 else np.zeros(1, dtype=np.int64))
    return [tuple(made)]


def _reduce(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, ReduceAttributes)
    an.freeze(*(x[0][i] for i in a.axes))
    one = np.zeros(1, dtype=np.int64)
    if a.keepdims:
        return [tuple(one if i in a.axes else labels for i, labels in enumerate(x[0]))]
    return [tuple(labels for i, labels in enumerate(x[0]) if i not in a.axes)]


def _concat(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, ConcatAttributes)
    axis = layer.attributes.axis
    for other in x[1:]:
        for i, labels in enumerate(other):
            if i != axis:
                an.join(x[0][i], labels)
    joined = np.concatenate([axes[axis] for axes in x])
    return [tuple(joined if i == axis else labels for i, labels in enumerate(x[0]))]


def _split(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Equal pieces lose the same places and stay equal, as `chunk` makes them; unequal ones are frozen."""
    a = layer.attributes
    assert isinstance(a, SplitAttributes)
    if len(set(a.sizes)) > 1:
        an.freeze(x[0][a.axis])
    pieces = np.split(x[0][a.axis], np.cumsum(a.sizes)[:-1])
    for piece in pieces[1:] if len(set(a.sizes)) == 1 else ():
        an.join(pieces[0], piece)
    return [tuple(piece if i == a.axis else labels for i, labels in enumerate(x[0])) for piece in pieces]


def _slice(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """A slice that is not the whole axis freezes it: the program may hold its bounds as numbers."""
    a = layer.attributes
    assert isinstance(a, SliceAttributes)
    made = list(x[0])
    for axis, start, stop, step in zip(a.axes, a.starts, a.stops, a.steps, strict=True):
        if (start, step) != (0, 1) or stop < len(made[axis]):
            an.freeze(made[axis])
            made[axis] = made[axis][start:stop:step]
    return [tuple(made)]


def _pad(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, PadAttributes)
    made = list(_frozen_axes(layer.results[0].shape))
    for i, labels in enumerate(x[0]):
        if a.begin[i] or a.end[i]:
            an.freeze(labels)
        else:
            made[i] = labels
    return [tuple(made)]


def _transpose(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, TransposeAttributes)
    return [tuple(x[0][p] for p in layer.attributes.permutation)]


def _aligned(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Expand and resize: axes that keep their size keep their labels, the others are frozen."""
    made = list(_frozen_axes(layer.results[0].shape))
    for back, labels in enumerate(reversed(x[0]), start=1):
        if len(labels) == len(made[-back]):
            made[-back] = labels
        else:
            an.freeze(labels)
    for axes in x[1:]:
        an.freeze(*axes)
    return [tuple(made)]


def _embedding(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, EmbeddingAttributes)
    axis = layer.attributes.axis
    an.freeze(x[0][axis], *x[1])
    return [(*x[0][:axis], *x[1], *x[0][axis + 1 :])]


def _reshape(an: _Analysis, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Tie axes that a reshape splits or merges, block by block (sizes of one aside).

    Where one axis of a x b indices stands for axes a and b, only one of the two can shrink and keep memory order: the
    largest that is not frozen. Dropping its index j drops all i x b + j, which is how a channel becomes a block of
    features and how a channel shuffle is followed. Blocks of several axes on both sides are frozen.
    """
    result = layer.results[0].shape
    made = list(_frozen_axes(result))
    for left, right in _blocks([len(a) for a in x[0]], result):
        if len(left) == 1 and len(right) == 1:
            made[right[0]] = x[0][left[0]]
        elif len(right) == 1:
            made[right[0]] = _merged(an, [x[0][i] for i in left])
        elif len(left) == 1:
            sizes = [result[j] for j in right]
            free = int(np.argmax(sizes))
            made[right[free]] = _parted(an, x[0][left[0]], sizes, free)
        else:
            an.freeze(*(x[0][i] for i in left))
    return [tuple(made)]


def _merged(an: _Analysis, axes: Sequence[Labels]) -> Labels:
    sizes = [len(a) for a in axes]
    order = sorted(range(len(axes)), key=lambda i: -sizes[i])
    free = next((i for i in order if not an.is_frozen(axes[i])), order[0])
    an.freeze(*(a for i, a in enumerate(axes) if i != free))
    return axes[free][np.unravel_index(np.arange(prod(sizes)), sizes)[free]]


def _parted(an: _Analysis, labels: Labels, sizes: Sequence[int], free: int) -> Labels:
    place = np.unravel_index(np.arange(len(labels)), sizes)[free]
    first = np.array([np.flatnonzero(place == j)[0] for j in range(sizes[free])])
    made = labels[first]
    an.join(labels, made[place])
    return made


def _blocks(left: Sequence[int], right: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest blocks of axes (sizes above one) on both sides that hold the same elements."""
    a = [i for i, size in enumerate(left) if size > 1]
    b = [j for j, size in enumerate(right) if size > 1]
    found = []
    while a and b:
        taken, met = [a.pop(0)], [b.pop(0)]
        while (p := prod(left[i] for i in taken)) != (q := prod(right[j] for j in met)):
            if p < q:
                taken.append(a.pop(0))
            else:
                met.append(b.pop(0))
        found.append((taken, met))
    return found


_RULES: Mapping[Op, Rule] = {
    Op.CONV: _conv,
    Op.DEFORM_CONV: _conv,
    Op.LINEAR: _linear,
    Op.MATMUL: _matmul,
    Op.POOL: _pool,
    Op.NORM: _norm,
    Op.ACTIVATION: _same,
    Op.SOFTMAX: _softmax,
    Op.ELEMENTWISE: _elementwise,
    Op.REDUCE: _reduce,
    Op.CONCAT: _concat,
    Op.SPLIT: _split,
    Op.SLICE: _slice,
    Op.PAD: _pad,
    Op.RESHAPE: _reshape,
    Op.TRANSPOSE: _transpose,
    Op.EXPAND: _aligned,
    Op.RESIZE: _aligned,
    Op.EMBEDDING: _embedding,
}
