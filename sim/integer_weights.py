"""A layer's weights as the integers that integer hardware holds, without torch: what the executor would program.

Codes and steps follow `sim/numerics/quantize.py` (there in torch, with gradients): a step that the network states, or the one
with the least squared rounding error among clipping points from 0.3 to 1 of the largest value, over the whole tensor or per
output channel.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.attributes import ConvAttributes, Op
from picojoule.sim.clipping import CLIPPING_SHARES
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.formats import FormatKind, Granularity, NumberFormat
from picojoule.sim.ir import Layer
from picojoule.sim.weights import FILL_NOTE

Floats = NDArray[np.floating[Any]]

_SMALLEST_STEP = 1e-12
_CHUNK = 1 << 18


def integer_weights(
    layer: Layer, form: NumberFormat, *, needed_by: str = "this figure", remedy: str = "do without it"
) -> NDArray[np.int64]:
    """Return the codes of a layer's weight in an integer format as matrices [groups, out, in].

    `needed_by` and `remedy` complete the refusal: "<needed_by> follows the weights but ...; load it with weights, or <remedy>".

    Raises:
        UnsupportedError: where the source of the network has no weights (a table of shapes).

    """
    operand = layer.operands[1]
    if operand.weights is None or operand.weights.note == FILL_NOTE:
        raise UnsupportedError(
            f"layer '{layer.name}': {needed_by} follows the weights but this network has none; "
            f"load it with weights, or {remedy}"
        )
    value = np.asarray(operand.weights.array())
    value = value if value.dtype == np.float64 else value.astype(np.float32)
    axis = _channel_axis(layer)
    if operand.step is not None:
        step = np.asarray(operand.step, dtype=value.dtype)
        if len(step) > 1:
            step = step.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
    else:
        step = best_step(value, form, axis if form.per is Granularity.CHANNEL else None)
    return _matrices(layer, _codes(value, step, form).astype(np.int64))


def best_step(x: Floats, form: NumberFormat, channel_axis: int | None = None) -> Floats:
    """Return the step (one, or one per index of `channel_axis`) with the least squared error, shaped to broadcast with x."""
    moved = (
        x.reshape(1, -1) if channel_axis is None else np.moveaxis(x, channel_axis, 0).reshape(x.shape[channel_axis], -1)
    )
    shape = [1 if i != channel_axis else -1 for i in range(x.ndim)]
    if form.kind is FormatKind.BINARY:
        return np.asarray(np.maximum(np.abs(moved).mean(1), _SMALLEST_STEP).astype(x.dtype).reshape(shape))
    top = np.maximum(moved.max(1), -moved.min(1))
    qmax = x.dtype.type(form.qmax)
    best = np.maximum(top / qmax, x.dtype.type(_SMALLEST_STEP))
    if form.bits >= 8 and channel_axis is not None:
        return np.asarray(best.reshape(shape))
    least = _error(moved, best, form)
    for share in CLIPPING_SHARES:
        step = np.maximum(top * share / qmax, x.dtype.type(_SMALLEST_STEP))
        error = _error(moved, step, form)
        best = np.where(error < least, step, best)
        least = np.minimum(error, least)
    return np.asarray(best.reshape(shape))


def _error(rows: Floats, step: Floats, form: NumberFormat) -> NDArray[np.float64]:
    """Return the squared rounding error of each row, summed in float64, piece by piece: temporaries stay in the cache."""
    total = np.zeros(len(rows))
    width = max(1, _CHUNK // len(rows))
    for start in range(0, rows.shape[1], width):
        part = rows[:, start : start + width]
        rounded = part / step[:, None]
        np.rint(rounded, out=rounded)
        np.clip(rounded, form.qmin, form.qmax, out=rounded)
        rounded *= step[:, None]
        rounded -= part
        np.square(rounded, out=rounded)
        total += rounded.sum(1, dtype=np.float64)
    return total


def _codes(x: Floats, step: Floats, form: NumberFormat) -> Floats:
    scaled = x / step
    if form.kind is FormatKind.BINARY:
        return np.where(scaled >= 0, 1.0, -1.0)
    return np.asarray(np.rint(np.clip(scaled, form.qmin, form.qmax)))


def _channel_axis(layer: Layer) -> int | None:
    """Return the axis of the weights that counts output channels; None where groups mix them."""
    a = layer.attributes
    if isinstance(a, ConvAttributes) and a.transposed:
        return 1 if a.groups == 1 else None
    return len(layer.operands[1].shape) - 1 if layer.op is Op.MATMUL else 0


def _matrices(layer: Layer, w: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return weights as [groups, out, in], one matrix per group (or of a stack)."""
    a = layer.attributes
    if isinstance(a, ConvAttributes):
        rows = w.reshape(a.groups, w.shape[0] // a.groups, prod(w.shape[1:]))
        return rows.swapaxes(1, 2) if a.transposed else rows
    if layer.op is Op.MATMUL:
        return w.reshape(-1, *w.shape[-2:]).swapaxes(1, 2)
    return w[None]
