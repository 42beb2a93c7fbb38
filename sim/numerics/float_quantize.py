"""Quantisers of the network itself, as its source wrote them; codes are whole numbers held in float32.

Rounding is half to even and gradients pass straight through it, stopping outside the range of codes. Sources: ONNX
QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear; torch's fake_quantize (which multiplies by 1 / scale where we
divide: they part by one code only where x / scale lies within a rounding of a half).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from picojoule.sim import attributes as at
from picojoule.sim.attributes import QuantizeKind
from picojoule.sim.ir import Layer
from picojoule.sim.numerics.quantize import round_ste


def quantize(layer: Layer, x: Sequence[Tensor], batch: int) -> list[Tensor]:
    """Return codes, values, or values rounded to codes; see `QuantizeAttributes`."""
    a = layer.attributes
    assert isinstance(a, at.QuantizeAttributes)
    value = x[0].float()
    if a.kind is QuantizeKind.DYNAMIC:
        return _dynamic(value, a)
    scale = _along(x[1], a.axis, value.dim())
    zero = _along(x[2], a.axis, value.dim()) if a.has_zero_point else torch.zeros(())
    if a.kind is QuantizeKind.DEQUANTIZE:
        return [(value - zero) * scale]
    codes = (round_ste(value / scale) + zero).clamp(a.low, a.high)
    return [codes if a.kind is QuantizeKind.QUANTIZE else (codes - zero) * scale]


def _along(value: Tensor, axis: int | None, rank: int) -> Tensor:
    """Return a scale or zero point shaped to broadcast along `axis`."""
    value = value.float()
    if axis is None or value.numel() == 1:
        return value.reshape(())
    return value.reshape([-1 if i == axis else 1 for i in range(rank)])


def _dynamic(x: Tensor, a: at.QuantizeAttributes) -> list[Tensor]:
    low, high = x.detach().amin().clamp(max=0.0), x.detach().amax().clamp(min=0.0)
    scale = torch.where(high == low, torch.ones(()), (high - low) / (a.high - a.low))
    zero = (a.low - low / scale).clamp(a.low, a.high).round()
    return [(round_ste(x / scale) + zero).clamp(a.low, a.high), scale, zero]
