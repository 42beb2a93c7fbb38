"""Time through the pipeline: each layer starts as soon as its first window has arrived, and layers overlap.

For one sample, layer l with service time S makes its results evenly between

    start = max over producers p of (start_p + first (end_p - start_p))
    end   = max(start + S, max over producers of (end_p + last S))

both later by `depth`, the way through the unit. `first` is the share of p's results that the first result needs (the
rows of its window; 1 for a fully connected layer, a product of activations, a softmax or norm over the rows), `last`
the share of its own work that remains when the last input has arrived. The rest of a batch follows as fast as the slowest
stage lets it:

    latency(batch) = max(end of the last layer + max over stages of rest, max over stages of busy)

where a stage that is busy for the whole batch has a `rest` of (batch - 1) / batch of that. In a layer whose steps wait for each
other, samples share the waiting: its rest is what its batch takes longer than one sample alone.

Left out: waiting for buffers, routers and links.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from picojoule.sim.attributes import (
    ConvAttributes,
    LinearAttributes,
    MatmulAttributes,
    NormAttributes,
    NormKind,
    Op,
    PoolAttributes,
    RecurrentAttributes,
    SoftmaxAttributes,
)
from picojoule.sim.ir import Layer, Network, OperandKind
from picojoule.sim.passes import moves_nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Shares of an operand's production before a layer starts, and of the layer's work after it has ended."""

    first: float
    last: float


WHOLE = Wait(first=1.0, last=1.0)
_STREAMING = frozenset(
    {Op.ACTIVATION, Op.ELEMENTWISE, Op.CONCAT, Op.SPLIT, Op.SLICE, Op.PAD, Op.EXPAND, Op.RESIZE, Op.EMBEDDING}
)


def wait(layer: Layer, position: int) -> Wait:
    """Return how a layer waits for the operand at `position`.

    Rows are axis 2 of [batch, channel, row, ...] and axis 1 of [batch, token, feature]; values of fewer axes come
    whole.
    """
    x = layer.operands[position].shape
    match layer.attributes:
        case ConvAttributes() as a if position == 0 and layer.op is Op.CONV:
            return _conv(layer, a)
        case PoolAttributes() as a:
            return _pool(layer, a)
        case LinearAttributes() | MatmulAttributes() if position == 0 and not _is_dynamic(layer):
            return _even(prod(x[:-1]))
        case NormAttributes(kind=NormKind.BATCH | NormKind.LRN):
            return _by_row(x)
        case NormAttributes(kind=NormKind.LAYER | NormKind.RMS, axes=1):
            return _by_row(x) if len(x) == 3 else WHOLE
        case SoftmaxAttributes() as a:
            return _by_row(x) if a.axis % len(x) != _row_axis(x) else WHOLE
        case RecurrentAttributes() as a if position == 0 and not a.reverse:
            return _even(x[a.time_axis])  # the gates of one step
    if moves_nothing(layer):
        return Wait(first=0.0, last=0.0)
    return _by_row(x) if layer.op in _STREAMING else WHOLE


def _is_dynamic(layer: Layer) -> bool:
    return layer.operands[1].kind is OperandKind.ACTIVATION


def _row_axis(shape: tuple[int, ...]) -> int | None:
    return None if len(shape) < 3 else 1 if len(shape) == 3 else 2


def _even(parts: int) -> Wait:
    return Wait(first=1 / parts, last=1 / parts)


def _by_row(shape: tuple[int, ...]) -> Wait:
    axis = _row_axis(shape)
    return WHOLE if axis is None else _even(shape[axis])


def _conv(layer: Layer, a: ConvAttributes) -> Wait:
    rows = layer.operands[0].shape[2]
    if a.transposed:  # its work is per input pixel
        return Wait(first=min(rows, 1 + a.padding_begin[0] // a.stride[0]) / rows, last=1 / rows)
    reach = (layer.operands[1].shape[2] - 1) * a.dilation[0] + 1
    return _window(rows, layer.results[0].shape[2], reach, a.stride[0], a.padding_begin[0])


def _pool(layer: Layer, a: PoolAttributes) -> Wait:
    rank = len(a.output_size) or len(a.kernel)
    rows = layer.operands[0].shape[-rank]
    if a.output_size:
        out = a.output_size[0]
        return Wait(first=-(-rows // out) / rows, last=1 / out)
    dilation = a.dilation[0] if a.dilation else 1
    padding = a.padding_begin[0] if a.padding_begin else 0
    stride = a.stride[0] if a.stride else a.kernel[0]
    return _window(rows, layer.results[0].shape[-rank], (a.kernel[0] - 1) * dilation + 1, stride, padding)


def _window(rows: int, out_rows: int, reach: int, stride: int, padding: int) -> Wait:
    """Return the wait of windows of `reach` rows; result row o reads from row o * stride - padding onwards."""
    first = min(max(reach - padding, 1), rows)
    touches_last = max(0, -(-(rows - reach + padding) // stride))
    return Wait(first=first / rows, last=max(1, out_rows - touches_last) / out_rows)


def fill_s(network: Network, service_s: Mapping[str, float], depth_s: Mapping[str, float]) -> float:
    """Return the time of one sample through the idle pipeline; services and depths by layer name, for one sample."""
    spans: dict[str, tuple[float, float]] = {r.name: (0.0, 0.0) for r in network.inputs}
    latest = 0.0
    for layer in network.layers:
        service, depth = service_s[layer.name], depth_s[layer.name]
        start = end = 0.0
        for position, operand in enumerate(layer.operands):
            if operand.kind is not OperandKind.ACTIVATION:
                continue
            share = wait(layer, position)
            begun, done = spans[operand.name]
            start = max(start, begun + share.first * (done - begun))
            end = max(end, done + share.last * service)
        span = (start + depth, max(start + service, end) + depth)
        latest = max(latest, span[1])
        spans.update((r.name, span) for r in layer.results)
    return latest


def rests_s(stages: Mapping[str, float], alone_s: Mapping[str, float], batch: int) -> dict[str, float]:
    """Return the time of each stage for a batch but its first sample; `alone_s` is one sample's where steps wait."""
    later = (batch - 1) / batch
    return {name: max(0.0, s - alone_s[name]) if name in alone_s else later * s for name, s in stages.items()}


def batch_latency_s(fill: float, stages: Mapping[str, float], rests: Mapping[str, float]) -> float:
    """Return the time of a batch; `stages` are busy and `rests` their times after the first sample."""
    return max(fill + max(rests.values(), default=0.0), max(stages.values(), default=0.0))
