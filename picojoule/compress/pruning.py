"""Drops channel groups from a network: smaller shapes, attributes and weights, everything else as it was."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from picojoule.compress.coupling import Coupling, channel_groups
from picojoule.compress.labels import Axes
from picojoule.sim.attributes import (
    Attributes,
    ConvAttributes,
    DeformConvAttributes,
    Op,
    SliceAttributes,
    SplitAttributes,
)
from picojoule.sim.builder import infer_types
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer, Network, Operand, OperandKind, Result, TensorType, check_network
from picojoule.sim.weights import Weights

if TYPE_CHECKING:
    import torch

Kept = tuple[NDArray[np.int64], ...]
"""Indices that stay, per axis."""


def prune_network(network: Network, keep: NDArray[np.bool_], coupling: Coupling | None = None) -> Network:
    """Return the network without the channel groups that `keep` (one flag a group) leaves out.

    Weights stay handles: they are sliced when loaded, and gradients reach the tensors they come from.

    Raises:
        InputError: if `keep` does not fit the network's groups or would leave an axis empty.

    """
    coupling = coupling or channel_groups(network)
    if keep.shape != (coupling.count,):
        raise InputError(f"{network.name} has {coupling.count} channel groups; keep must have one flag for each")
    values = {name: kept_indices(axes, keep) for name, axes in coupling.values.items()}
    tensors = {
        (name, tuple(len(labels) for labels in axes)): kept_indices(axes, keep)
        for name, axes in coupling.tensors.items()
    }
    inputs = tuple(_result(r, values[r.name]) for r in network.inputs)
    layers = []
    for layer in network.layers:
        operands = tuple(_operand(layer, i, o, values, tensors) for i, o in enumerate(layer.operands))
        results = tuple(_result(r, values[r.name]) for r in layer.results)
        shapes = [o.shape for o in operands] + [r.shape for r in results]
        if any(size < 1 for shape in shapes for size in shape):
            raise InputError(f"{network.name}: layer '{layer.name}' would keep no channel; keep at least one")
        made = replace(
            layer, operands=operands, results=results, attributes=_attributes(layer.attributes, operands, results)
        )
        inferred = infer_types(made.op, made.operands, made.attributes)
        assert inferred is None or [t.shape for t in inferred] == [r.shape for r in results], layer.name
        layers.append(made)
    made_network = replace(network, inputs=inputs, layers=tuple(layers), original_parameters=None)
    check_network(made_network)
    return made_network


def kept_indices(axes: Axes, keep: NDArray[np.bool_]) -> Kept:
    """Return the indices that stay on each axis."""
    padded = np.append(keep, True)  # a frozen index, numbered -1, finds this last flag
    return tuple(np.flatnonzero(padded[labels]) for labels in axes)


def _type(kind: TensorType, kept: Kept) -> TensorType:
    return replace(kind, shape=tuple(len(indices) for indices in kept))


def _result(result: Result, kept: Kept) -> Result:
    return replace(result, type=_type(result.type, kept))


def _operand(
    layer: Layer,
    position: int,
    operand: Operand,
    values: dict[str, Kept],
    tensors: dict[tuple[str, tuple[int, ...]], Kept],
) -> Operand:
    if operand.kind is OperandKind.ACTIVATION:
        return replace(operand, type=_type(operand.type, values[operand.name]))
    kept = tensors.get((operand.name, operand.shape))
    if kept is None or all(len(k) == s for k, s in zip(kept, operand.shape, strict=True)):
        return operand
    step = operand.step
    if step is not None and len(step) > 1 and position == 1:
        step = tuple(step[i] for i in kept[_step_axis(layer)])
    handle = sliced(operand.weights, kept) if operand.weights is not None else None
    return replace(operand, type=_type(operand.type, kept), weights=handle, step=step)


def _step_axis(layer: Layer) -> int:
    """Return the weight axis that a step per channel runs along."""
    a = layer.attributes
    return 1 if layer.op is Op.MATMUL or (isinstance(a, ConvAttributes) and a.transposed) else 0


def sliced(weights: Weights, kept: Kept) -> Weights:
    """Return a handle on the kept indices of a tensor; nothing is loaded."""
    base, origin = weights.load, weights.origin

    def load() -> NDArray[np.generic]:
        return np.ascontiguousarray(base()[np.ix_(*kept)])

    def select() -> "torch.Tensor":
        import torch

        assert origin is not None
        value = origin()
        for axis, indices in enumerate(kept):
            if len(indices) < value.shape[axis]:
                value = value.index_select(axis, torch.from_numpy(indices).to(value.device))
        return value

    shape = tuple(len(indices) for indices in kept)
    return Weights(shape=shape, load=load, origin=select if origin is not None else None, note=weights.note)


def _attributes(a: Attributes, operands: Sequence[Operand], results: Sequence[Result]) -> Attributes:
    match a:
        case ConvAttributes(transposed=True):
            return replace(a, groups=results[0].shape[1] // operands[1].shape[1])
        case ConvAttributes() | DeformConvAttributes():
            return replace(a, groups=operands[0].shape[1] // operands[1].shape[1])
        case SplitAttributes():
            return replace(a, sizes=tuple(r.shape[a.axis] for r in results))
        case SliceAttributes():  # only whole axes shrink, see coupling
            stops = tuple(min(stop, operands[0].shape[i]) for i, stop in zip(a.axes, a.stops, strict=True))
            return replace(a, stops=stops)
        case _:
            return a
