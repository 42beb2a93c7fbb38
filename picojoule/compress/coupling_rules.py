"""How each operator ties the channels of its operands and results: one rule per operator.

A rule takes the labels of the operands' axes, makes those equal (or frozen) that must go together, and returns the labels of
the results' axes. Whatever has no rule is frozen by `unknown`.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from picojoule.compress.labels import Axes, Labels, LabelSet, frozen_axes
from picojoule.sim.attributes import (
    ConcatAttributes,
    ConvAttributes,
    CumulativeAttributes,
    DeformConvAttributes,
    EmbeddingAttributes,
    NormAttributes,
    NormKind,
    Op,
    PadAttributes,
    PoolAttributes,
    QuantizeAttributes,
    QuantizeKind,
    ReduceAttributes,
    SliceAttributes,
    SoftmaxAttributes,
    SortAttributes,
    SplitAttributes,
    TransposeAttributes,
)
from picojoule.sim.ir import Layer, OperandKind

Rule = Callable[[LabelSet, Layer, Sequence[Axes]], list[Axes]]


def _frozen_results(layer: Layer) -> list[Axes]:
    return [frozen_axes(r.shape) for r in layer.results]


def unknown(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Freeze everything that an operator touches."""
    for axes in x:
        an.freeze(*axes)
    return _frozen_results(layer)


def _same(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    return [x[0]]


def _conv(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
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
    frozen = frozen_axes(layer.results[0].shape)
    return [(frozen[0], out, *frozen[2:])]


def _grouped_channels(an: LabelSet, groups: int, channels: Labels, filters: Axes) -> Labels:
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


def _transposed_channels(an: LabelSet, groups: int, channels: Labels, filters: Axes) -> Labels:
    """Tie channels to a filter [in, out / groups, ...]; only plain and depthwise ones are understood."""
    an.join(filters[0], channels)
    if groups == 1:
        return filters[1]
    if groups == len(channels):
        an.freeze(filters[1])
        return np.repeat(channels, len(filters[1]))
    an.freeze(*filters[:2])
    return np.zeros(len(filters[1]) * groups, dtype=np.int64)


def _linear(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    an.join(x[1][1], x[0][-1])
    for bias in x[2:]:
        an.join(bias[0], x[1][0])
    return [(*x[0][:-1], x[1][0])]


def _matmul(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    if layer.operands[1].kind is OperandKind.ACTIVATION or len(x[1]) != 2:
        return unknown(an, layer, x)
    if layer.operands[0].kind is not OperandKind.ACTIVATION:
        return unknown(an, layer, x)
    an.join(x[1][0], x[0][-1])
    return [(*x[0][:-1], x[1][1])]


def _pool(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, PoolAttributes)
    rank = len(a.output_size or a.kernel)
    an.freeze(*x[0][-rank:])
    return [(*x[0][:-rank], *frozen_axes(layer.results[0].shape[-rank:]))]


def _norm(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, NormAttributes)
    if a.kind in (NormKind.BATCH, NormKind.INSTANCE):
        for statistic in x[1:]:
            an.join(statistic[0], x[0][1])
        return [x[0]]
    normalised = x[0][-a.axes :] if a.kind in (NormKind.LAYER, NormKind.RMS) else (x[0][1],)
    an.freeze(*normalised, *(axis for axes in x[1:] for axis in axes))
    return [x[0]]


def _softmax(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, SoftmaxAttributes)
    an.freeze(x[0][layer.attributes.axis])
    return [x[0]]


def _elementwise(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    shape = layer.results[0].shape
    made = []
    for back in range(len(shape), 0, -1):
        size = shape[-back]
        spanning = [axes[-back] for axes in x if len(axes) >= back and len(axes[-back]) == size]
        for other in spanning[1:]:
            an.join(spanning[0], other)
        made.append(spanning[0] if size > 1 else np.zeros(1, dtype=np.int64))
    return [tuple(made)]


def _reduce(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, ReduceAttributes)
    an.freeze(*(x[0][i] for i in a.axes))
    one = np.zeros(1, dtype=np.int64)
    if a.keepdims:
        return [tuple(one if i in a.axes else labels for i, labels in enumerate(x[0]))]
    return [tuple(labels for i, labels in enumerate(x[0]) if i not in a.axes)]


def _concat(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, ConcatAttributes)
    axis = layer.attributes.axis
    for other in x[1:]:
        for i, labels in enumerate(other):
            if i != axis:
                an.join(x[0][i], labels)
    joined = np.concatenate([axes[axis] for axes in x])
    return [tuple(joined if i == axis else labels for i, labels in enumerate(x[0]))]


def _split(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Let equal pieces lose the same places and stay equal, as `chunk` makes them; freeze unequal ones."""
    a = layer.attributes
    assert isinstance(a, SplitAttributes)
    if len(set(a.sizes)) > 1:
        an.freeze(x[0][a.axis])
    pieces = np.split(x[0][a.axis], np.cumsum(a.sizes)[:-1])
    for piece in pieces[1:] if len(set(a.sizes)) == 1 else ():
        an.join(pieces[0], piece)
    return [tuple(piece if i == a.axis else labels for i, labels in enumerate(x[0])) for piece in pieces]


def _slice(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Freeze an axis that is not taken whole: the program may hold the bounds as numbers."""
    a = layer.attributes
    assert isinstance(a, SliceAttributes)
    made = list(x[0])
    for axis, start, stop, step in zip(a.axes, a.starts, a.stops, a.steps, strict=True):
        if (start, step) != (0, 1) or stop < len(made[axis]):
            an.freeze(made[axis])
            made[axis] = made[axis][start:stop:step]
    return [tuple(made)]


def _pad(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    a = layer.attributes
    assert isinstance(a, PadAttributes)
    made = list(frozen_axes(layer.results[0].shape))
    for i, labels in enumerate(x[0]):
        if a.begin[i] or a.end[i]:
            an.freeze(labels)
        else:
            made[i] = labels
    return [tuple(made)]


def _transpose(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, TransposeAttributes)
    return [tuple(x[0][p] for p in layer.attributes.permutation)]


def _aligned(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Expand and resize: axes that keep their size keep their labels, the others are frozen."""
    made = list(frozen_axes(layer.results[0].shape))
    for back, labels in enumerate(reversed(x[0]), start=1):
        if len(labels) == len(made[-back]):
            made[-back] = labels
        else:
            an.freeze(labels)
    for axes in x[1:]:
        an.freeze(*axes)
    return [tuple(made)]


def _embedding(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    assert isinstance(layer.attributes, EmbeddingAttributes)
    axis = layer.attributes.axis
    an.freeze(x[0][axis], *x[1])
    return [(*x[0][:axis], *x[1], *x[0][axis + 1 :])]


def _quantize(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Let channels through a quantiser with one scale; scales per channel, and those from all values, stay whole."""
    a = layer.attributes
    assert isinstance(a, QuantizeAttributes)
    if a.kind is QuantizeKind.DYNAMIC:
        return unknown(an, layer, x)
    if a.axis is not None:
        an.freeze(x[0][a.axis])
    return [x[0]]


def _along_one_axis(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Freeze the axis that is sorted or summed up; the others pass."""
    a = layer.attributes
    assert isinstance(a, CumulativeAttributes | SortAttributes)
    an.freeze(x[0][a.axis])
    made = [frozen_axes(r.shape) for r in layer.results]
    return [
        tuple(f if i == a.axis else labels for i, (f, labels) in enumerate(zip(m, x[0], strict=True))) for m in made
    ]


def _grid_sample(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Let the image's channels pass; space and the grid stay whole."""
    an.freeze(x[0][0], *x[0][2:], *x[1])
    frozen = frozen_axes(layer.results[0].shape)
    return [(frozen[0], x[0][1], *frozen[2:])]


def _reshape(an: LabelSet, layer: Layer, x: Sequence[Axes]) -> list[Axes]:
    """Tie axes that a reshape splits or merges, block by block (sizes of one aside).

    Where one axis of a x b indices stands for axes a and b, only one of the two can shrink and keep memory order: the
    largest that is not frozen. Dropping its index j drops all i x b + j, which is how a channel becomes a block of
    features and how a channel shuffle is followed. Blocks of several axes on both sides are frozen.
    """
    result = layer.results[0].shape
    made = list(frozen_axes(result))
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


def _merged(an: LabelSet, axes: Sequence[Labels]) -> Labels:
    sizes = [len(a) for a in axes]
    order = sorted(range(len(axes)), key=lambda i: -sizes[i])
    free = next((i for i in order if not an.is_frozen(axes[i])), order[0])
    an.freeze(*(a for i, a in enumerate(axes) if i != free))
    made: Labels = axes[free][np.unravel_index(np.arange(prod(sizes)), sizes)[free]]
    return made


def _parted(an: LabelSet, labels: Labels, sizes: Sequence[int], free: int) -> Labels:
    place = np.unravel_index(np.arange(len(labels)), sizes)[free]
    first = np.array([np.flatnonzero(place == j)[0] for j in range(sizes[free])])
    made: Labels = labels[first]
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


RULES: Mapping[Op, Rule] = {
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
    Op.QUANTIZE: _quantize,
    Op.SORT: _along_one_axis,
    Op.CUMULATIVE: _along_one_axis,
    Op.GRID_SAMPLE: _grid_sample,
}
"""What is missing is frozen (`unknown`): gathers and scatters, whose indices count on every element, and recurrent layers, whose
state enters all gates of the next step; the layers around them lose channels as usual."""
