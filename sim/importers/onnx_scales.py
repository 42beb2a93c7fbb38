"""A scale and a shift per channel behind a convolution or a batch norm, as exporters spell batch norm, put back into one.

What follows a convolution becomes a batch norm of no mean and unit variance, which `passes.fold_batch_norm` folds further; what
follows a batch norm merges with it; a shift alone is a convolution's bias.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from picojoule.sim.attributes import ConvAttributes, ElementwiseKind, NormAttributes, NormKind, Op
from picojoule.sim.builder import as_operand
from picojoule.sim.importers.onnx_rewrite import graph_of, is_kind, kept, put
from picojoule.sim.ir import Layer, Network, Operand, OperandKind, TensorType
from picojoule.sim.weights import Weights, from_array

Ew = ElementwiseKind


def fold_scales_and_shifts(network: Network) -> Network:
    """Put a scale and a shift per channel behind a convolution or batch norm into a batch norm (which folds further on)."""
    graph = graph_of(network)
    layers: list[Layer | None] = list(network.layers)
    names = Counter(o.name for layer in network.layers for o in layer.operands)
    for i, layer in enumerate(network.layers):
        if layers[i] is not layer or not _per_channel(layer):
            continue
        chain, factors = [i], dict[ElementwiseKind, Operand]()
        for kind in (Ew.MUL, Ew.ADD):
            follower = graph.only_reader(chain[-1])
            factor = follower and _channel_factor(follower[1], kind, layer.results[0].type)
            if follower is not None and factor is not None:
                factors[kind] = factor
                chain.append(follower[0])
        if not factors or (layer.op is Op.CONV and Ew.MUL not in factors and not _bias_fits(layer)):
            continue
        last = network.layers[chain[-1]]
        if layer.op is Op.CONV and Ew.MUL not in factors:
            bias = _vector(factors[Ew.ADD], names)
            put(layers, frozenset(chain), i, replace(layer, operands=(*layer.operands, bias), results=last.results))
        elif layer.op is Op.CONV:
            made = _norm_of(last, as_operand(layer.results[0]), factors, names)
            put(layers, frozenset(chain[1:]), chain[-1], made)
        else:
            put(layers, frozenset(chain), i, replace(_merged(layer, factors, names), results=last.results))
    return kept(network, layers)


def _per_channel(layer: Layer) -> bool:
    a = layer.attributes
    if isinstance(a, NormAttributes):
        return a.kind is NormKind.BATCH and all(o.weights is not None for o in layer.operands[1:])
    return isinstance(a, ConvAttributes) and layer.operands[1].kind is OperandKind.PARAMETER


def _bias_fits(layer: Layer) -> bool:
    return len(layer.operands) == 2


def _channel_factor(layer: Layer, kind: ElementwiseKind, x: TensorType) -> Operand | None:
    """Return the stored operand with one number per channel that a layer multiplies by or adds."""
    if not is_kind(layer, kind) or len(layer.operands) != 2 or layer.results[0].type != x or len(x.shape) < 2:
        return None
    for operand in layer.operands:
        if operand.kind is OperandKind.ACTIVATION or operand.weights is None:
            continue
        shape = (1,) * (len(x.shape) - len(operand.shape)) + operand.shape
        if shape == tuple(s if i == 1 else 1 for i, s in enumerate(x.shape)) and prod(shape) > 1:
            return operand
    return None


def _vector(operand: Operand, names: Counter[str]) -> Operand:
    """Return a factor as one axis; where its name stands elsewhere too, that one keeps it."""
    weights = operand.weights
    assert weights is not None
    count = prod(operand.shape)
    flat = Weights(shape=(count,), load=lambda: weights.array().reshape(-1), note=weights.note)
    name = operand.name if names[operand.name] == 1 else f"{operand.name} (flat)"
    return replace(operand, name=name, type=TensorType(shape=(count,)), weights=flat)


def _filled(name: str, value: float, count: int) -> Operand:
    weights = from_array(np.broadcast_to(np.float32(value), (count,)), note="constant")
    return Operand(kind=OperandKind.CONSTANT, name=f"{count} {name}", type=TensorType(shape=(count,)), weights=weights)


def _norm_of(last: Layer, x: Operand, factors: Mapping[ElementwiseKind, Operand], names: Counter[str]) -> Layer:
    """Return a batch norm of no mean and unit variance in the place of `last`."""
    count = x.shape[1]
    scale = _vector(factors[Ew.MUL], names)
    shift = _vector(factors[Ew.ADD], names) if Ew.ADD in factors else _filled("zeros", 0.0, count)
    operands = (x, scale, shift, _filled("zeros", 0.0, count), _filled("ones", 1.0, count))
    return replace(last, op=Op.NORM, operands=operands, attributes=NormAttributes(kind=NormKind.BATCH, epsilon=0.0))


def _merged(layer: Layer, factors: Mapping[ElementwiseKind, Operand], names: Counter[str]) -> Layer:
    """Return a batch norm that also does what follows it: scale' = s m, shift' = b m + a."""
    x, scale, shift, mean, variance = layer.operands
    times, plus = factors.get(Ew.MUL), factors.get(Ew.ADD)

    def loaded(
        operand: Operand | None, default: float
    ) -> Callable[[], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        weights = operand.weights if operand is not None else None
        if weights is None:
            return lambda: np.array([default])
        return lambda: np.asarray(weights.array(), np.float64).reshape(-1)

    s, b, m, a = loaded(scale, 1.0), loaded(shift, 0.0), loaded(times, 1.0), loaded(plus, 0.0)

    def changed(operand: Operand, load: Callable[[], np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> Operand:
        assert operand.weights is not None
        handle = Weights(shape=operand.shape, load=load, note=operand.weights.note)
        return replace(operand, name=f"{operand.name} (with what follows)", weights=handle)

    made = (
        changed(scale, lambda: (s() * m()).astype(np.float32)),
        changed(shift, lambda: (b() * m() + a()).astype(np.float32)),
    )
    return replace(layer, operands=(x, *made, mean, variance))
