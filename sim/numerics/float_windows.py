"""Operators with windows, in floating point: convolutions of any rank and pooling."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.attributes import PoolKind
from picojoule.sim.ir import Layer


def padding_of(begin: Sequence[int], end: Sequence[int]) -> list[int]:
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
        full = F.pad(full, padding_of((0,) * rank, extra))
        cut = [slice(None), slice(None)]
        cut += [
            slice(b, full.shape[i + 2] - e) for i, (b, e) in enumerate(zip(a.padding_begin, a.padding_end, strict=True))
        ]
        return full[tuple(cut)]
    plain: Any = (F.conv1d, F.conv2d, F.conv3d)
    if a.padding_begin != a.padding_end:
        x = F.pad(x, padding_of(a.padding_begin, a.padding_end))
        return plain[rank - 1](x, weight, bias, a.stride, 0, a.dilation, a.groups)  # type: ignore[no-any-return]
    return plain[rank - 1](x, weight, bias, a.stride, a.padding_begin, a.dilation, a.groups)  # type: ignore[no-any-return]


def pool(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return pooled windows, or adaptive pooling where `output_size` is set."""
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
    padding = padding_of(a.padding_begin, [max(e, 0) for e in end])
    if a.kind is PoolKind.MAX:
        low = -math.inf if value.is_floating_point() else torch.iinfo(value.dtype).min
        maximum: Any = getattr(F, f"max_pool{rank}d")
        return [maximum(F.pad(value, padding, value=low), a.kernel, a.stride, 0, a.dilation)]
    return [_average_pool(a, value, padding, need)]


def _average_pool(a: at.PoolAttributes, value: Tensor, padding: list[int], need: Sequence[int]) -> Tensor:
    """Average over the window; the divisor counts real elements, and padding too when `count_include_pad`.

    What ceil mode adds beyond the stated padding never counts (the rule of torch and ONNX).
    """
    rank = len(a.kernel)
    ones = torch.ones((1, 1, *value.shape[-rank:]), dtype=value.dtype)
    if a.count_include_pad:
        stated = padding_of(a.padding_begin, [min(e, n) for e, n in zip(a.padding_end, need, strict=True)])
        ones = F.pad(ones, stated, value=1.0)
        ones = _cropped(ones, need)
        ones = F.pad(ones, padding_of((0,) * rank, [n - s for n, s in zip(need, ones.shape[-rank:], strict=True)]))
    else:
        ones = F.pad(ones, padding)
    return _window_mean(a, F.pad(value, padding)) / _window_mean(a, ones)


def _window_mean(a: at.PoolAttributes, x: Tensor) -> Tensor:
    """Return the mean of every window; torch's pooling knows no dilation, a convolution with equal taps does."""
    rank = len(a.kernel)
    if all(d == 1 for d in a.dilation):
        mean: Any = getattr(F, f"avg_pool{rank}d")
        return mean(x, a.kernel, a.stride)  # type: ignore[no-any-return]
    taps = torch.full((1, 1, *a.kernel), 1.0 / math.prod(a.kernel), dtype=x.dtype)
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    y = convolve(x.reshape(-1, 1, *x.shape[-rank:]), taps, None, a.stride, 0, a.dilation)
    return y.reshape(*x.shape[:-rank], *y.shape[-rank:])  # type: ignore[no-any-return]


def _cropped(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return x with its trailing axes cut to `sizes`."""
    for axis, size in enumerate(sizes, start=x.dim() - len(sizes)):
        x = x.narrow(axis, 0, min(size, x.shape[axis]))
    return x
