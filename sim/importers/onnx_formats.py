"""Carries the formats of quantised activations from their quantisers to the layers that multiply them.

A value on the grid of a quantiser stays on it through operators that only move values; what reads it there reads so many
bits. A step is known where the zero point is zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from picojoule.sim.attributes import (
    MAC_OPS,
    ActivationAttributes,
    ActivationKind,
    Op,
    PoolAttributes,
    PoolKind,
    QuantizeAttributes,
    QuantizeKind,
)
from picojoule.sim.formats import NumberFormat
from picojoule.sim.ir import Layer, Network, Operand, OperandKind

_MOVES = frozenset(
    {Op.RESHAPE, Op.TRANSPOSE, Op.CONCAT, Op.SPLIT, Op.SLICE, Op.EXPAND, Op.PAD, Op.EMBEDDING, Op.GATHER}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Where a value's codes are known: their format and step."""

    format: NumberFormat
    step: tuple[float, ...] | None = None


def carry_formats(network: Network) -> Network:
    """Return the network with the formats of quantised activations on results and on what multiplies them."""
    if not any(layer.op is Op.QUANTIZE for layer in network.layers):
        return network
    grids: dict[str, _Grid] = {}
    layers = []
    for layer in network.layers:
        made = _grids(layer, [grids.get(o.name) for o in layer.operands])
        if layer.op in MAC_OPS:
            layer = replace(layer, operands=tuple(_read(layer, i, o, grids) for i, o in enumerate(layer.operands)))
        if any(made):
            results = tuple(replace(r, format=g.format) if g else r for r, g in zip(layer.results, made, strict=True))
            layer = replace(layer, results=results)
            grids.update((r.name, g) for r, g in zip(layer.results, made, strict=True) if g)
        layers.append(layer)
    return network.with_layers(tuple(layers))


def _grids(layer: Layer, read: Sequence[_Grid | None]) -> list[_Grid | None]:
    a = layer.attributes
    nothing: list[_Grid | None] = [None] * len(layer.results)
    if isinstance(a, QuantizeAttributes):
        form = layer.results[0].format
        if form is None:
            return nothing
        if a.kind in (QuantizeKind.QUANTIZE, QuantizeKind.DYNAMIC):
            return [_Grid(format=form), *nothing[1:]]
        return [_Grid(format=form, step=_step(layer, a))]
    keeps = layer.op in _MOVES
    keeps = keeps or (isinstance(a, ActivationAttributes) and a.kind is ActivationKind.RELU)
    keeps = keeps or (isinstance(a, PoolAttributes) and a.kind is PoolKind.MAX)
    moved = [g for o, g in zip(layer.operands, read, strict=True) if o.kind is OperandKind.ACTIVATION]
    if layer.op in (Op.EMBEDDING, Op.GATHER):
        moved = moved[:1] if layer.operands[0].kind is OperandKind.ACTIVATION else []
    elif any(o.kind is not OperandKind.ACTIVATION for o in layer.operands):
        return nothing
    if not keeps or not moved or moved[0] is None or any(g != moved[0] for g in moved):
        return nothing
    return [moved[0]] * len(layer.results)


def _step(layer: Layer, a: QuantizeAttributes) -> tuple[float, ...] | None:
    """Return the step of dequantised values, where one number says it."""
    scale = layer.operands[1].weights
    if a.has_zero_point or a.axis is not None or scale is None or scale.elements != 1:
        return None
    return (float(scale.array().reshape(-1)[0]),)


def _read(layer: Layer, position: int, operand: Operand, grids: dict[str, _Grid]) -> Operand:
    grid = grids.get(operand.name)
    multiplied = position == 0 or (position == 1 and layer.op is Op.MATMUL)
    if grid is None or not multiplied or operand.kind is not OperandKind.ACTIVATION:
        return operand
    return replace(operand, format=grid.format, step=grid.step)
