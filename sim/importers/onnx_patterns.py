"""Operators that exporters spell out, put together again: activations, layer and RMS norm, softmax, batch norm's scale and shift.

Only what nobody else reads is put together, and no output of the network. Values stay the same up to rounding.
"""

from dataclasses import dataclass, replace

import numpy as np

from picojoule.sim.attributes import (
    ActivationAttributes,
    Attributes,
    ElementwiseKind,
    NormAttributes,
    NormKind,
    Op,
    ReduceAttributes,
    ReduceKind,
    SoftmaxAttributes,
)
from picojoule.sim.importers.onnx_activations import Chain, extended, recognised
from picojoule.sim.importers.onnx_rewrite import Graph, graph_of, is_kind, kept, put
from picojoule.sim.importers.onnx_scales import fold_scales_and_shifts
from picojoule.sim.ir import Layer, Network, Operand, OperandKind

Ew = ElementwiseKind


def fuse_patterns(network: Network) -> Network:
    """Return the network with spelt-out operators as one layer each."""
    trained = network.parameters
    for rewrite in (_activations, _norms, fold_scales_and_shifts):
        network = rewrite(network)
    return network if network.parameters == trained else replace(network, original_parameters=trained)


# --- activations ------------------------------------------------------------------------------------------------------------


def _activations(network: Network) -> Network:
    """Replace chains of element-wise layers that are an activation, the longest first."""
    graph, known = graph_of(network), dict[str, dict[str, Chain]]()
    found: dict[int, list[tuple[Chain, Operand, ActivationAttributes]]] = {}
    operands = {o.name: o for layer in network.layers for o in layer.activations}
    for i, layer in enumerate(network.layers):
        chains = extended(layer, i, known)
        if not chains:
            continue
        known[layer.results[0].name] = chains
        for start, chain in chains.items():
            spelt_out = any(network.layers[j].op is Op.ELEMENTWISE for j in chain.layers)
            if len(chain.layers) < 2 or not spelt_out or not graph.private(chain.layers, i):
                continue
            made = recognised(chain.values)
            if made is not None:
                found.setdefault(i, []).append((chain, operands[start], made))
    layers: list[Layer | None] = list(network.layers)
    for i in sorted(found, reverse=True):
        chain, source, made = max(found[i], key=lambda f: len(f[0].layers))
        if all(layers[j] is network.layers[j] for j in chain.layers):
            last = network.layers[i]
            put(layers, chain.layers, i, replace(last, op=Op.ACTIVATION, operands=(source,), attributes=made))
    return kept(network, layers)


# --- norms and softmax --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """What a pattern found: the layers it takes, the value it works on, and the attributes of the one layer."""

    inside: frozenset[int]
    source: Operand
    op: Op
    attributes: Attributes


def _norms(network: Network) -> Network:
    graph = graph_of(network)
    layers: list[Layer | None] = list(network.layers)
    for i, layer in enumerate(network.layers):
        if layers[i] is not layer or not is_kind(layer, Ew.DIV, Ew.MUL):
            continue
        for pattern in (_layer_norm, _rms_norm, _softmax):
            match = pattern(graph, i, layer)
            if match is None or not graph.private(match.inside, i):
                continue
            if any(layers[j] is not network.layers[j] for j in match.inside):
                continue
            made = replace(layer, op=match.op, operands=(match.source,), attributes=match.attributes)
            last, inside = i, match.inside
            if isinstance(match.attributes, NormAttributes):
                made, last, more = _scaled(graph, made, i)
                inside |= more
            put(layers, inside, last, made)
            break
    return kept(network, layers)


def _parts(graph: Graph, layer: Layer, kind: ElementwiseKind) -> list[tuple[Operand, Operand]]:
    """Return a layer's two operands, in both orders where order does not matter; nothing for other layers."""
    if not is_kind(layer, kind) or len(layer.operands) != 2:
        return []
    a, b = layer.operands
    return [(a, b), (b, a)] if kind in (Ew.MUL, Ew.ADD) else [(a, b)]


def _scalar(operand: Operand) -> float | None:
    if operand.kind is OperandKind.ACTIVATION or operand.weights is None or operand.weights.elements != 1:
        return None
    return float(np.asarray(operand.weights.array(), np.float64).reshape(-1)[0])


def _mean_over(graph: Graph, operand: Operand, kind: ReduceKind) -> tuple[int, Operand, tuple[int, ...]] | None:
    """Return the layer, operand and axes of a reduction that keeps its axes."""
    made = graph.maker(operand)
    if made is None or not isinstance(made[1].attributes, ReduceAttributes):
        return None
    a = made[1].attributes
    return (made[0], made[1].operands[0], a.axes) if a.kind is kind and a.keepdims else None


def _square_of(graph: Graph, operand: Operand) -> tuple[int, Operand] | None:
    """Return the layer and operand of x * x or x ** 2."""
    made = graph.maker(operand)
    if made is None or len(made[1].operands) != 2:
        return None
    i, layer = made
    a, b = layer.operands
    if is_kind(layer, Ew.MUL) and a.name == b.name and a.kind is OperandKind.ACTIVATION:
        return i, a
    return (i, a) if is_kind(layer, Ew.POW) and _scalar(b) == 2.0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Deviation:
    """sqrt(mean(x^2) + epsilon), or its reciprocal: the layers, x, the number of trailing axes, epsilon."""

    inside: frozenset[int]
    source: Operand
    axes: int
    epsilon: float


def _divided(graph: Graph, layer: Layer) -> list[tuple[Operand, _Deviation, frozenset[int]]]:
    """Return (numerator, deviation, layers) of x / d, x * (1 / d) or x * rsqrt(...)."""
    found = []
    if is_kind(layer, Ew.DIV):
        pairs = [(a, b, frozenset[int](), True) for a, b in _parts(graph, layer, Ew.DIV)]
    else:
        pairs = []
        for a, b in _parts(graph, layer, Ew.MUL):
            made = graph.maker(b)
            if made is not None and is_kind(made[1], Ew.RECIPROCAL):
                pairs.append((a, made[1].operands[0], frozenset({made[0]}), True))
            elif made is not None and is_kind(made[1], Ew.RSQRT):
                pairs.append((a, b, frozenset[int](), False))
            elif made is not None and is_kind(made[1], Ew.DIV) and _scalar(made[1].operands[0]) == 1.0:
                pairs.append((a, made[1].operands[1], frozenset({made[0]}), True))
    for a, b, extra, root in pairs:
        deviation = _deviation(graph, b, root=root)
        if deviation is not None:
            found.append((a, deviation, extra))
    return found


def _deviation(graph: Graph, operand: Operand, *, root: bool) -> _Deviation | None:
    made = graph.maker(operand)
    if made is None:
        return None
    i, layer = made
    if not is_kind(layer, Ew.SQRT if root else Ew.RSQRT):
        half = root and is_kind(layer, Ew.POW) and _scalar(layer.operands[1]) == 0.5
        if not half:
            return None
    inside, under = {i}, layer.operands[0]
    epsilon, added = 0.0, graph.maker(under)
    if added is None:
        return None
    for a, b in _parts(graph, added[1], Ew.ADD):
        value = _scalar(b)
        if value is not None:
            epsilon, under = value, a
            inside.add(added[0])
            break
    mean = _mean_over(graph, under, ReduceKind.MEAN)
    square = _square_of(graph, mean[1]) if mean else None
    if mean is None or square is None:
        return None
    rank = len(square[1].shape)
    axes = rank - min(mean[2])
    if mean[2] != tuple(range(rank - axes, rank)) or square[1].type.batch_axis in mean[2]:
        return None
    return _Deviation(inside=frozenset({*inside, mean[0], square[0]}), source=square[1], axes=axes, epsilon=epsilon)


def _layer_norm(graph: Graph, index: int, layer: Layer) -> _Match | None:
    """Layer norm: (x - mean) / sqrt(mean((x - mean)^2) + epsilon)."""
    for numerator, deviation, extra in _divided(graph, layer):
        top, below = _centred(graph, numerator, deviation.axes), _centred(graph, deviation.source, deviation.axes)
        if top is None or below is None or top[0].name != below[0].name:
            continue
        inside = frozenset({index}) | extra | deviation.inside | top[1] | below[1]
        made = NormAttributes(
            kind=NormKind.LAYER, epsilon=deviation.epsilon, axes=deviation.axes, has_scale=False, has_bias=False
        )
        return _Match(inside=inside, source=top[0], op=Op.NORM, attributes=made)
    return None


def _centred(graph: Graph, operand: Operand, axes: int) -> tuple[Operand, frozenset[int]] | None:
    """Return x and the layers of x - mean(x)."""
    made = graph.maker(operand)
    if made is None:
        return None
    for a, b in _parts(graph, made[1], Ew.SUB):
        mean = _mean_over(graph, b, ReduceKind.MEAN)
        rank = len(a.shape)
        if mean is not None and mean[1].name == a.name and mean[2] == tuple(range(rank - axes, rank)):
            return a, frozenset({made[0], mean[0]})
    return None


def _rms_norm(graph: Graph, index: int, layer: Layer) -> _Match | None:
    """RMS norm: x / sqrt(mean(x^2) + epsilon)."""
    for numerator, deviation, extra in _divided(graph, layer):
        if numerator.name != deviation.source.name:
            continue
        made = NormAttributes(
            kind=NormKind.RMS, epsilon=deviation.epsilon, axes=deviation.axes, has_scale=False, has_bias=False
        )
        inside = frozenset({index}) | extra | deviation.inside
        return _Match(inside=inside, source=numerator, op=Op.NORM, attributes=made)
    return None


def _scaled(graph: Graph, made: Layer, index: int) -> tuple[Layer, int, frozenset[int]]:
    """Return the norm with the scale and bias that follow it, the last layer taken, and all of those taken."""
    a = made.attributes
    assert isinstance(a, NormAttributes)
    shape, taken = made.operands[0].shape[-a.axes :], frozenset[int]()
    for kind in (Ew.MUL, Ew.ADD):
        if kind is Ew.ADD and (a.kind is NormKind.RMS or not a.has_scale):
            break
        follower = graph.only_reader(index)
        if follower is None:
            break
        factor = next((b for x, b in _parts(graph, follower[1], kind) if b.kind is not OperandKind.ACTIVATION), None)
        if factor is None or factor.shape != shape or follower[1].results[0].type != made.results[0].type:
            break
        taken |= {index}
        index = follower[0]
        a = replace(a, has_scale=True, has_bias=kind is Ew.ADD)
        made = replace(follower[1], op=Op.NORM, operands=(*made.operands, factor), attributes=a)
    return made, index, taken | {index}


def _softmax(graph: Graph, index: int, layer: Layer) -> _Match | None:
    """Softmax: exp(x - max(x)) / sum(exp(x - max(x))), with or without the maximum."""
    for top, below in _parts(graph, layer, Ew.DIV):
        total = _mean_over(graph, below, ReduceKind.SUM)
        power = graph.maker(top)
        if total is None or power is None or total[1].name != top.name or not is_kind(power[1], Ew.EXP):
            continue
        if len(total[2]) != 1 or top.type.batch_axis in total[2]:
            continue
        inside, source = frozenset({index, total[0], power[0]}), power[1].operands[0]
        shifted = graph.maker(source)
        for a, b in _parts(graph, shifted[1], Ew.SUB) if shifted else []:
            most = _mean_over(graph, b, ReduceKind.MAX)
            if shifted and most is not None and most[1].name == a.name and most[2] == total[2]:
                inside, source = inside | {shifted[0], most[0]}, a
        return _Match(inside=inside, source=source, op=Op.SOFTMAX, attributes=SoftmaxAttributes(axis=total[2][0]))
    return None
