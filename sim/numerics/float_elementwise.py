"""Element-wise operators and reductions in floating point, on integers and on booleans.

Integers stay integers where torch and numpy keep them: a division of two integers truncates (ONNX), bounds of a clip are
whole numbers. Everything real is float32: a cast to another float type rounds to it and comes back.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind as Ak
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import ReduceKind
from picojoule.sim.ir import Layer
from picojoule.sim.numerics.straight_through import round_straight_through

_BINARY: dict[Ew, Callable[[Tensor, Tensor], Tensor]] = {
    Ew.ADD: torch.add,
    Ew.SUB: torch.sub,
    Ew.MUL: torch.mul,
    Ew.POW: torch.pow,
    Ew.MAXIMUM: torch.maximum,
    Ew.MINIMUM: torch.minimum,
    Ew.MOD: torch.remainder,
    Ew.FMOD: torch.fmod,
    Ew.FLOOR_DIVIDE: torch.floor_divide,
    Ew.AND: torch.logical_and,
    Ew.OR: torch.logical_or,
    Ew.XOR: torch.logical_xor,
    Ew.EQUAL: torch.eq,
    Ew.NOT_EQUAL: torch.ne,
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
    Ew.EXPM1: torch.expm1,
    Ew.LOG: torch.log,
    Ew.LOG1P: torch.log1p,
    Ew.RECIPROCAL: torch.reciprocal,
    Ew.SIGN: torch.sign,
    Ew.ROUND: round_straight_through,
    Ew.FLOOR: torch.floor,
    Ew.CEIL: torch.ceil,
    Ew.TRUNC: torch.trunc,
    Ew.SIN: torch.sin,
    Ew.COS: torch.cos,
    Ew.TAN: torch.tan,
    Ew.ASIN: torch.asin,
    Ew.ACOS: torch.acos,
    Ew.ATAN: torch.atan,
    Ew.SINH: torch.sinh,
    Ew.COSH: torch.cosh,
    Ew.ASINH: torch.asinh,
    Ew.ACOSH: torch.acosh,
    Ew.ATANH: torch.atanh,
    Ew.NOT: torch.logical_not,
    Ew.IS_NAN: torch.isnan,
    Ew.IS_INF: torch.isinf,
    Ew.COPY: torch.clone,
}


def elementwise(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return element-wise arithmetic with broadcasting."""
    a = layer.attributes
    assert isinstance(a, at.ElementwiseAttributes)
    match a.kind:
        case Ew.CAST:
            return [_cast(x[0], getattr(torch, a.dtype or "float32"))]
        case Ew.WHERE:
            return [torch.where(x[0].bool(), x[1], x[2])]
        case Ew.DIV:
            whole = not x[0].is_floating_point() and not x[1].is_floating_point()
            return [torch.div(x[0], x[1], rounding_mode="trunc" if whole else None)]
    if a.kind in _SINGLE:
        return [_SINGLE[a.kind](x[0])]
    result = x[0]
    for other in x[1:]:
        result = _BINARY[a.kind](result, other)
    return [result]


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype is torch.float64:
        return x.float()
    made = x.to(dtype)
    return made.float() if made.is_floating_point() else made


_DEFAULT_ALPHA = {Ak.HARD_SIGMOID: 0.2, Ak.LEAKY_RELU: 0.01, Ak.SOFT_SHRINK: 0.5, Ak.HARD_SHRINK: 0.5}
_UNARY: dict[Ak, Callable[[Tensor], Tensor]] = {
    Ak.RELU: F.relu,
    Ak.SIGMOID: torch.sigmoid,
    Ak.TANH: torch.tanh,
    Ak.HARD_SWISH: F.hardswish,
    Ak.SILU: F.silu,
    Ak.GELU: F.gelu,
    Ak.SELU: F.selu,
    Ak.MISH: F.mish,
    Ak.ERF: torch.erf,
    Ak.SOFTSIGN: F.softsign,
    Ak.LOG_SIGMOID: F.logsigmoid,
}
_WITH_ALPHA: dict[Ak, Callable[[Tensor, float], Tensor]] = {
    Ak.LEAKY_RELU: F.leaky_relu,
    Ak.ELU: F.elu,
    Ak.CELU: F.celu,
    Ak.SOFTPLUS: F.softplus,
    Ak.SOFT_SHRINK: F.softshrink,
    Ak.HARD_SHRINK: F.hardshrink,
}


def activation(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return a non-linear function of every element."""
    a = layer.attributes
    assert isinstance(a, at.ActivationAttributes)
    value = x[0]
    alpha = a.alpha if a.alpha is not None else _DEFAULT_ALPHA.get(a.kind, 1.0)
    match a.kind:
        case Ak.CLIP:
            return [_clip(value, a.alpha, a.beta)]
        case Ak.HARD_SIGMOID:
            return [torch.clamp(alpha * value + (0.5 if a.beta is None else a.beta), 0.0, 1.0)]
        case Ak.GELU_TANH:
            return [F.gelu(value, approximate="tanh")]
        case Ak.THRESHOLD:
            return [F.threshold(value, alpha, 0.0 if a.beta is None else a.beta)]
    if a.kind in _WITH_ALPHA:
        return [_WITH_ALPHA[a.kind](value, alpha)]
    return [_UNARY[a.kind](value)]


def _clip(x: Tensor, low: float | None, high: float | None) -> Tensor:
    if not x.is_floating_point():  # float bounds would make integers real
        low = math.ceil(low) if low is not None and math.isfinite(low) else None
        high = math.floor(high) if high is not None and math.isfinite(high) else None
    return x if low is None and high is None else torch.clamp(x, low, high)


def reduce(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return a reduction; the arg kinds give the first index of several equal extremes."""
    a = layer.attributes
    assert isinstance(a, at.ReduceAttributes)
    value, axes = x[0], list(a.axes)
    match a.kind:
        case ReduceKind.MEAN:
            if value.is_floating_point():
                return [value.mean(axes, keepdim=a.keepdims)]
            count = math.prod(value.shape[i] for i in axes)
            return [torch.div(value.sum(axes, keepdim=a.keepdims), count, rounding_mode="trunc")]
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
        case ReduceKind.ARGMAX | ReduceKind.ARGMIN:
            find = torch.argmax if a.kind is ReduceKind.ARGMAX else torch.argmin
            ordered = value.byte() if value.dtype is torch.bool else value
            return [find(ordered, axes[0], keepdim=a.keepdims)]
