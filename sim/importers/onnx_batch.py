"""Follows the batch through reshapes, and checks at the end that the whole graph follows it.

A graph exported for one sample writes its batch of 1 into the targets of its reshapes; where the batch goes is then
read from memory order. A batch merged behind another axis ([T, B, E] as [T * B, E]) is remembered as `inner`, so that a
later reshape can take it apart again.
"""

from dataclasses import replace
from math import prod

from picojoule.sim.attributes import OpaqueAttributes, ReshapeAttributes
from picojoule.sim.builder import infer_types
from picojoule.sim.errors import InputError
from picojoule.sim.importers.onnx_values import Ints
from picojoule.sim.ir import Layer, Network, TensorType


def reshaped_type(x: TensorType, shape: Ints, *, inner: bool, axis: int | None = None) -> tuple[TensorType, bool]:
    """Return the type of `x` reshaped to `shape` (for one sample) and whether its batch is now inner.

    `inner` says so of `x` itself; `axis` is where the batch goes if that is known.

    Raises:
        InputError: if the numbers of elements differ.

    """
    if prod(shape) != prod(x.shape):
        raise InputError(f"cannot reshape {list(x.shape)} ({prod(x.shape)} elements) to {list(shape)}")
    if x.batch_axis is None or not shape:
        return TensorType(shape=shape), False
    before = prod(x.shape[: x.batch_axis + inner])
    if axis is None:
        axis = _axis_at(shape, before)
    is_inner = before == prod(shape[: axis + 1]) != prod(shape[:axis])
    return TensorType(shape=shape, batch_axis=axis), is_inner


def _axis_at(shape: Ints, before: int) -> int:
    """Return the axis that takes a batch with `before` elements outside it.

    An axis of size 1 at that place was the batch. Otherwise it is the outer part of the axis that starts there, except
    that features, which lie last, are no batch while an axis stands before them.
    """
    starts = [i for i in range(len(shape)) if prod(shape[:i]) == before]
    ones = [i for i in starts if shape[i] == 1]
    if ones:
        return ones[0]
    if starts:
        last = starts[-1]
        return last - 1 if last == len(shape) - 1 and last > 0 else last
    ends = [i for i in range(len(shape)) if prod(shape[: i + 1]) >= before]
    return ends[0]


def first_conflict(network: Network) -> str | None:
    """Return the first layer whose shapes for two samples contradict its operands, or None."""
    for layer in network.layers:
        if not _follows(layer):
            return layer.name
    return None


def _follows(layer: Layer) -> bool:
    if isinstance(layer.attributes, OpaqueAttributes):
        return True
    operands = [replace(o, type=TensorType(shape=o.type.at(2))) for o in layer.operands]
    stated = [r.type.at(2) for r in layer.results]
    if isinstance(layer.attributes, ReshapeAttributes):
        return prod(operands[0].shape) == prod(stated[0])
    try:
        inferred = infer_types(layer.op, operands, layer.attributes)
    except InputError:
        return False
    return inferred is None or [t.shape for t in inferred] == stated
