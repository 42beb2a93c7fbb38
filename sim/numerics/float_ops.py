"""Every operator of the workload in floating point: a table from `Op` to a function of torch tensors."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind, NormKind, Op, PoolKind, ReduceKind
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Layer
from picojoule.sim.numerics.deform import deform_conv2d

Function = Callable[[Layer, Sequence[Tensor], int], list[Tensor]]


def compute(layer: Layer, operands: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return a layer's results for its operands.

    Raises:
        UnsupportedError: for an operator nobody understood.

    """
    if layer.op not in FUNCTIONS:
        assert isinstance(layer.attributes, at.OpaqueAttributes)
        raise UnsupportedError(
            f"layer '{layer.name}' cannot be executed: operator {layer.attributes.original} is unknown"
        )
    return FUNCTIONS[layer.op](layer, operands, batch)


def _asymmetric(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Return padding in F.pad's order: last axis first."""
    return [v for b, e in reversed(list(zip(begin, end, strict=True))) for v in (b, e)]


def conv(a: at.ConvAttributes, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return a convolution of any rank, also transposed, with different padding at begin and end."""
    rank = len(a.stride)
    if a.transposed:
        functions: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
        extra = a.output_padding or (0,) * rank
        symmetric = tuple(max(b, e) for b, e in zip(a.padding_begin, a.padding_end, strict=True))
        if symmetric == a.padding_begin == a.padding_end:
            return functions[rank - 1](x, weight, bias, a.stride, symmetric, extra, a.groups, a.dilation)  # type: ignore[no-any-return]
        full = functions[rank - 1](x, weight, bias, a.stride, 0, 0, a.groups, a.dilation)
        full = F.pad(full, _asymmetric((0,) * rank, extra))
        cut = [slice(None), slice(None)]
        cut += [
            slice(b, full.shape[i + 2] - e) for i, (b, e) in enumerate(zip(a.padding_begin, a.padding_end, strict=True))
        ]
        return full[tuple(cut)]
    plain: Any = (F.conv1d, F.conv2d, F.conv3d)
    if a.padding_begin != a.padding_end:
        x = F.pad(x, _asymmetric(a.padding_begin, a.padding_end))
        return plain[rank - 1](x, weight, bias, a.stride, 0, a.dilation, a.groups)  # type: ignore[no-any-return]
    return plain[rank - 1](x, weight, bias, a.stride, a.padding_begin, a.dilation, a.groups)  # type: ignore[no-any-return]


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


def _cropped(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return x with its trailing axes cut to `sizes`."""
    for axis, size in enumerate(sizes, start=x.dim() - len(sizes)):
        x = x.narrow(axis, 0, min(size, x.shape[axis]))
    return x


def _pool(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.PoolAttributes)
    value = x[0]
    if a.output_size:
        names = {PoolKind.AVERAGE: "adaptive_avg_pool", PoolKind.MAX: "adaptive_max_pool"}
        function: Any = getattr(F, f"{names[a.kind]}{len(a.output_size)}d")
        return [function(value, a.output_size)]
    rank = len(a.kernel)
    space = layer.results[0].shape[-rank:]
    # Explicit padding to exactly the windows used covers uneven padding and ceil mode in one rule.
    need = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(space, a.stride, a.dilation, a.kernel, strict=True)]
    end = [n - v - b for n, v, b in zip(need, value.shape[-rank:], a.padding_begin, strict=True)]
    keep = [min(e, 0) for e in end]
    value = _cropped(value, [s + k for s, k in zip(value.shape[-rank:], keep, strict=True)])
    padding = _asymmetric(a.padding_begin, [max(e, 0) for e in end])
    if a.kind is PoolKind.MAX:
        low = -math.inf if value.is_floating_point() else torch.iinfo(value.dtype).min
        pool: Any = getattr(F, f"max_pool{rank}d")
        return [pool(F.pad(value, padding, value=low), a.kernel, a.stride, 0, a.dilation)]
    return [_average_pool(a, value, padding, need)]


def _average_pool(a: at.PoolAttributes, value: Tensor, padding: list[int], need: Sequence[int]) -> Tensor:
    """Average over the window; the divisor counts real elements, and padding too when `count_include_pad`.

    What ceil mode adds beyond the stated padding never counts (the rule of torch and ONNX).
    """
    rank = len(a.kernel)
    pool: Any = getattr(F, f"avg_pool{rank}d")
    size = math.prod(a.kernel)
    total = pool(F.pad(value, padding), a.kernel, a.stride) * size
    ones = torch.ones((1, 1, *value.shape[-rank:]), dtype=value.dtype)
    if a.count_include_pad:
        stated = _asymmetric(a.padding_begin, [min(e, n) for e, n in zip(a.padding_end, need, strict=True)])
        ones = F.pad(ones, stated, value=1.0)
        ones = _cropped(ones, need)
        ones = F.pad(ones, _asymmetric((0,) * rank, [n - s for n, s in zip(need, ones.shape[-rank:], strict=True)]))
    else:
        ones = F.pad(ones, padding)
    return total / (pool(ones, a.kernel, a.stride) * size)  # type: ignore[no-any-return]


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


def _activation(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.ActivationAttributes)
    value = x[0]
    alpha = a.alpha if a.alpha is not None else _DEFAULT_ALPHA.get(a.kind, 1.0)
    match a.kind:
        case ActivationKind.CLIP:
            return [value if a.alpha is None and a.beta is None else torch.clamp(value, a.alpha, a.beta)]
        case ActivationKind.HARD_SIGMOID:
            return [torch.clamp(alpha * value + (0.5 if a.beta is None else a.beta), 0.0, 1.0)]
        case ActivationKind.LEAKY_RELU:
            return [F.leaky_relu(value, alpha)]
        case ActivationKind.ELU:
            return [F.elu(value, alpha)]
        case ActivationKind.SOFTPLUS:
            return [F.softplus(value, alpha)]
        case ActivationKind.GELU_TANH:
            return [F.gelu(value, approximate="tanh")]
        case _:
            return [_UNARY[a.kind](value)]


_DEFAULT_ALPHA = {ActivationKind.HARD_SIGMOID: 0.2, ActivationKind.LEAKY_RELU: 0.01}
_UNARY: dict[ActivationKind, Callable[[Tensor], Tensor]] = {
    ActivationKind.RELU: F.relu,
    ActivationKind.SIGMOID: torch.sigmoid,
    ActivationKind.TANH: torch.tanh,
    ActivationKind.HARD_SWISH: F.hardswish,
    ActivationKind.SILU: F.silu,
    ActivationKind.GELU: F.gelu,
    ActivationKind.SELU: F.selu,
    ActivationKind.MISH: F.mish,
    ActivationKind.ERF: torch.erf,
}


def _softmax(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.SoftmaxAttributes)
    return [F.log_softmax(x[0], a.axis) if a.log else F.softmax(x[0], a.axis)]


_BINARY: dict[Ew, Callable[[Tensor, Tensor], Tensor]] = {
    Ew.ADD: torch.add,
    Ew.SUB: torch.sub,
    Ew.MUL: torch.mul,
    Ew.POW: torch.pow,
    Ew.MAXIMUM: torch.maximum,
    Ew.MINIMUM: torch.minimum,
    Ew.AND: torch.logical_and,
    Ew.OR: torch.logical_or,
    Ew.EQUAL: torch.eq,
    Ew.LESS: torch.lt,
    Ew.GREATER: torch.gt,
    Ew.LESS_EQUAL: torch.le,
    Ew.GREATER_EQUAL: torch.ge,
}
_SINGLE: dict[Ew, Callable[[Tensor], Tensor]] = {
    Ew.NEG: torch.neg,
    Ew.ABS: torch.abs,
    Ew.SQRT: torch.sqrt,
    Ew.RSQRT: torch.rsqrt,
    Ew.EXP: torch.exp,
    Ew.LOG: torch.log,
    Ew.RECIPROCAL: torch.reciprocal,
    Ew.SIGN: torch.sign,
    Ew.ROUND: torch.round,
    Ew.FLOOR: torch.floor,
    Ew.CEIL: torch.ceil,
    Ew.SIN: torch.sin,
    Ew.COS: torch.cos,
    Ew.NOT: torch.logical_not,
    Ew.COPY: torch.clone,
}


def _elementwise(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.ElementwiseAttributes)
    if a.kind is Ew.CAST:
        return [x[0].to(getattr(torch, a.dtype or "float32"))]
    if a.kind is Ew.WHERE:
        return [torch.where(x[0].bool(), x[1], x[2])]
    if a.kind is Ew.DIV:
        whole = not x[0].is_floating_point() and not x[1].is_floating_point()
        return [torch.div(x[0], x[1], rounding_mode="trunc" if whole else None)]
    if a.kind in _SINGLE:
        return [_SINGLE[a.kind](x[0])]
    result = x[0]
    for other in x[1:]:
        result = _BINARY[a.kind](result, other)
    return [result]


def _reduce(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.ReduceAttributes)
    value, axes = x[0], list(a.axes)
    match a.kind:
        case ReduceKind.MEAN:
            return [value.mean(axes, keepdim=a.keepdims)]
        case ReduceKind.SUM:
            return [value.sum(axes, keepdim=a.keepdims)]
        case ReduceKind.MAX:
            return [value.amax(axes, keepdim=a.keepdims)]
        case ReduceKind.MIN:
            return [value.amin(axes, keepdim=a.keepdims)]
        case ReduceKind.PROD:
            for axis in sorted(axes, reverse=True):
                value = value.prod(axis, keepdim=a.keepdims)
            return [value]


def _concat(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    assert isinstance(layer.attributes, at.ConcatAttributes)
    return [torch.cat(list(x), layer.attributes.axis)]


def _split(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    assert isinstance(layer.attributes, at.SplitAttributes)
    return list(torch.split(x[0], list(layer.attributes.sizes), layer.attributes.axis))


def _slice(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.SliceAttributes)
    value = x[0]
    for axis, start, stop, step in zip(a.axes, a.starts, a.stops, a.steps, strict=True):
        if axis == layer.operands[0].type.batch_axis and layer.operands[0].type == layer.results[0].type:
            continue  # the whole batch axis, whatever its size now
        positions = torch.arange(start, stop, step)
        value = value.index_select(axis, positions)
    return [value]


def _pad(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    a = layer.attributes
    assert isinstance(a, at.PadAttributes)
    if a.mode == "constant":
        return [F.pad(x[0], _asymmetric(a.begin, a.end), value=a.value)]
    used = [i for i, (b, e) in enumerate(zip(a.begin, a.end, strict=True)) if b or e]
    mode = {"edge": "replicate", "reflect": "reflect"}[a.mode]
    value = x[0]
    for axis in used:  # one axis at a time: torch pads only trailing axes of some ranks
        moved = value.movedim(axis, -1)
        flat = moved.reshape(1, -1, moved.shape[-1])
        padded = F.pad(flat, [a.begin[axis], a.end[axis]], mode=mode)
        value = padded.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
    return [value]


def _reshape(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    return [x[0].reshape(layer.results[0].type.at(batch))]


def _transpose(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    assert isinstance(layer.attributes, at.TransposeAttributes)
    return [x[0].permute(layer.attributes.permutation)]


def _expand(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    return [x[0].expand(layer.results[0].type.at(batch))]


def _resize(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Resample axis by axis; the ratio of sizes is the scale."""
    a = layer.attributes
    assert isinstance(a, at.ResizeAttributes)
    value = x[0]
    for axis, size in enumerate(layer.results[0].type.at(batch)):
        if value.shape[axis] != size:
            value = _resize_axis(a, value, axis, size)
    return [value]


def _resize_axis(a: at.ResizeAttributes, x: Tensor, axis: int, size: int) -> Tensor:
    old = x.shape[axis]
    position = torch.arange(size, dtype=torch.float64)
    if a.coordinates == "align_corners":
        place = position * ((old - 1) / (size - 1)) if size > 1 else position * 0
    elif a.coordinates == "asymmetric":
        place = position * (old / size)
    else:
        place = (position + 0.5) * (old / size) - 0.5
    if a.mode == "nearest":
        rules: dict[str, Callable[[Tensor], Tensor]] = {
            "floor": torch.floor,
            "ceil": torch.ceil,
            "round_prefer_floor": lambda p: torch.ceil(p - 0.5),
            "round_prefer_ceil": lambda p: torch.floor(p + 0.5),
        }
        return x.index_select(axis, rules[a.nearest_rounding](place).long().clamp(0, old - 1))
    place = place.clamp(0, old - 1)
    low = place.floor().long()
    share = (place - low).to(x.dtype).reshape([-1 if i == axis else 1 for i in range(x.dim())])
    upper = x.index_select(axis, (low + 1).clamp(max=old - 1))
    return x.index_select(axis, low) * (1 - share) + upper * share


def _embedding(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    assert isinstance(layer.attributes, at.EmbeddingAttributes)
    axis = layer.attributes.axis
    indices = x[1].long()
    indices = torch.where(indices < 0, indices + x[0].shape[axis], indices)
    taken = x[0].index_select(axis, indices.reshape(-1))
    return [taken.reshape(*x[0].shape[:axis], *indices.shape, *x[0].shape[axis + 1 :])]


FUNCTIONS: dict[Op, Function] = {
    Op.CONV: _conv,
    Op.LINEAR: _linear,
    Op.MATMUL: _matmul,
    Op.DEFORM_CONV: _deform,
    Op.POOL: _pool,
    Op.NORM: _norm,
    Op.ACTIVATION: _activation,
    Op.SOFTMAX: _softmax,
    Op.ELEMENTWISE: _elementwise,
    Op.REDUCE: _reduce,
    Op.CONCAT: _concat,
    Op.SPLIT: _split,
    Op.SLICE: _slice,
    Op.PAD: _pad,
    Op.RESHAPE: _reshape,
    Op.TRANSPOSE: _transpose,
    Op.EXPAND: _expand,
    Op.RESIZE: _resize,
    Op.EMBEDDING: _embedding,
}
