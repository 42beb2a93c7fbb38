"""Every operator of the workload in floating point: a table from `Op` to a function of torch tensors."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.attributes import NormKind, Op
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Layer
from picojoule.sim.numerics import float_layout as layout
from picojoule.sim.numerics.deform import deform_conv2d
from picojoule.sim.numerics.float_elementwise import activation, elementwise, reduce
from picojoule.sim.numerics.float_quantize import quantize
from picojoule.sim.numerics.float_recurrent import recurrent
from picojoule.sim.numerics.float_resize import grid_sample, resize
from picojoule.sim.numerics.float_windows import conv, pool

Function = Callable[[Layer, Sequence[Tensor], int], list[Tensor]]


def compute(layer: Layer, operands: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return a layer's results for its operands.

    Raises:
        InputError: if an index lies outside what it indexes.
        UnsupportedError: for an operator nobody understood.

    """
    if layer.op not in FUNCTIONS:
        assert isinstance(layer.attributes, at.OpaqueAttributes)
        raise UnsupportedError(
            f"layer '{layer.name}' cannot be executed: operator {layer.attributes.original} is unknown"
        )
    return FUNCTIONS[layer.op](layer, operands, batch)


def _conv(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    assert isinstance(layer.attributes, at.ConvAttributes)
    return [conv(layer.attributes, x[0], x[1], x[2] if len(x) > 2 else None)]


def _linear(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    return [F.linear(x[0], x[1], x[2] if len(x) > 2 else None)]


def _matmul(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    return [x[0] @ x[1]]


def _deform(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.DeformConvAttributes)
    rest = list(x[3:])
    mask = rest.pop(0) if a.has_mask else None
    bias = rest.pop(0) if a.has_bias else None
    return [deform_conv2d(x[0], x[1], x[2], mask, bias, a)]


def _norm(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.NormAttributes)
    value = x[0]
    if a.kind is NormKind.BATCH:
        return [F.batch_norm(value, x[3], x[4], x[1], x[2], training=False, eps=a.epsilon)]
    rest = list(x[1:])
    scale = rest.pop(0) if a.has_scale and rest else None
    bias = rest.pop(0) if a.has_bias and rest else None
    match a.kind:
        case NormKind.LAYER:
            return [F.layer_norm(value, value.shape[-a.axes :], scale, bias, a.epsilon)]
        case NormKind.RMS:
            return [F.rms_norm(value, value.shape[-a.axes :], scale, a.epsilon)]
        case NormKind.GROUP:
            return [F.group_norm(value, a.groups, scale, bias, a.epsilon)]
        case NormKind.INSTANCE:
            return [F.instance_norm(value, None, None, scale, bias, eps=a.epsilon)]
        case _:
            return [F.local_response_norm(value, a.size, a.alpha, a.beta, a.bias)]


def _softmax(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.SoftmaxAttributes)
    return [F.log_softmax(x[0], a.axis) if a.log else F.softmax(x[0], a.axis)]


FUNCTIONS: dict[Op, Function] = {
    Op.CONV: _conv,
    Op.LINEAR: _linear,
    Op.MATMUL: _matmul,
    Op.DEFORM_CONV: _deform,
    Op.POOL: pool,
    Op.NORM: _norm,
    Op.ACTIVATION: activation,
    Op.SOFTMAX: _softmax,
    Op.ELEMENTWISE: elementwise,
    Op.REDUCE: reduce,
    Op.CONCAT: layout.concat,
    Op.SPLIT: layout.split,
    Op.SLICE: layout.slice_,
    Op.PAD: layout.pad,
    Op.RESHAPE: layout.reshape,
    Op.TRANSPOSE: layout.transpose,
    Op.EXPAND: layout.expand,
    Op.RESIZE: resize,
    Op.EMBEDDING: layout.embedding,
    Op.RECURRENT: recurrent,
    Op.QUANTIZE: quantize,
    Op.GATHER: layout.gather,
    Op.SCATTER: layout.scatter,
    Op.SORT: layout.sort,
    Op.CUMULATIVE: layout.cumulative,
    Op.GRID_SAMPLE: grid_sample,
}
