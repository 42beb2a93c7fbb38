"""Uniform quantisers: choosing steps, rounding with straight-through gradients, wrapping accumulators.

A quantised value is an integer code times a step. Codes are held in floating-point tensors, exactly.
"""

import torch
from torch import Tensor

from picojoule.sim.clipping import CLIPPING_SHARES
from picojoule.sim.formats import FormatKind, NumberFormat

_SMALLEST_STEP = 1e-12
_MARGIN = 1 + 1e-6


def round_ste(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing had happened (Bengio et al. 2013)."""
    return x + (x.round() - x).detach()


def codes(x: Tensor, step: Tensor, form: NumberFormat) -> Tensor:
    """Return the integer codes of x for a format; gradients pass inside the range and stop outside."""
    scaled = x / step
    if form.kind is FormatKind.BINARY:
        return scaled + (torch.where(scaled >= 0, 1.0, -1.0).to(x.dtype) - scaled).detach()
    # The largest value lies on the bound up to rounding; the margin keeps its gradient.
    return round_ste(scaled.clamp(form.qmin * _MARGIN, form.qmax * _MARGIN))


def cast_float(x: Tensor, form: NumberFormat) -> Tensor:
    """Round x to a float format with `exponent_bits` and `mantissa_bits` (IEEE-like, saturating, with subnormals)."""
    exponent = 8 if form.exponent_bits is None else form.exponent_bits
    mantissa = 23 if form.mantissa_bits is None else form.mantissa_bits
    if exponent >= 8 and mantissa >= 23:
        return x
    bias = 2 ** (exponent - 1) - 1
    wide = x.double()
    power = torch.floor(torch.log2(wide.abs().clamp(min=2.0**-300))).clamp(min=1 - bias)
    unit = torch.exp2(power - mantissa)
    top = 2.0 ** (2**exponent - 2 - bias) * (2 - 2.0**-mantissa)
    rounded = (torch.round(wide / unit) * unit).clamp(-top, top).to(x.dtype)
    return x + (rounded - x).detach()


def power_of_two(x: Tensor, step: Tensor, form: NumberFormat) -> Tensor:
    """Round x / step to sign and a power of two among 2^(bits-1) - 1 levels below 1, or zero; returns values."""
    scaled = x / step
    levels = 2 ** (form.bits - 1) - 1
    power = torch.round(torch.log2(scaled.abs().clamp(min=2.0**-100))).clamp(max=0)
    value = torch.where(power > -levels, torch.exp2(power) * scaled.sign(), torch.zeros_like(scaled)) * step
    return x + (value - x).detach()


def block_float(x: Tensor, form: NumberFormat, axis: int, groups: int = 1) -> Tensor:
    """Round x to integer mantissas of `form.bits` (with sign) and one power-of-two scale per block along `axis`; returns values.

    The largest value of a block sets its exponent, so that it just fits (or saturates by half a unit); mantissas round half to
    even. The axis is first cut into `groups`, each of which begins a block; its last block may be short.
    """
    size = form.block or 1
    moved = x.detach().movedim(axis, -1)
    split = moved.reshape(*moved.shape[:-1], groups, -1)
    short = -split.shape[-1] % size
    blocks = torch.nn.functional.pad(split, (0, short)).reshape(*split.shape[:-1], -1, size).double()
    exponent = torch.floor(torch.log2(blocks.abs().amax(-1, keepdim=True).clamp(min=2.0**-126)))
    unit = torch.exp2(exponent - (form.bits - 2))
    rounded = torch.round(blocks / unit).clamp(form.qmin, form.qmax) * unit
    flat = rounded.reshape(*split.shape[:-1], -1)[..., : split.shape[-1]].reshape(moved.shape)
    return x + (flat.movedim(-1, axis).to(x.dtype) - x).detach()


def best_step(x: Tensor, form: NumberFormat, channel_axis: int | None = None) -> Tensor:
    """Return the step with the least squared rounding error among clipping points from 0.3 to 1 of the largest value.

    With `channel_axis` one step per index of that axis, shaped to broadcast against x. Formats of 8 bits or more keep the
    full range per channel, where clipping gains nothing measurable.
    """
    keep = list(range(x.dim())) if channel_axis is None else [i for i in range(x.dim()) if i != channel_axis]
    data = x.detach()
    top = data.abs().amax(keep, keepdim=True) if keep else data.abs()
    qmax = float(form.qmax)
    if form.kind is FormatKind.BINARY:
        return data.abs().mean(keep, keepdim=True).clamp(min=_SMALLEST_STEP)
    if form.bits >= 8 and channel_axis is not None:
        return (top / qmax).clamp(min=_SMALLEST_STEP)
    best = (top / qmax).clamp(min=_SMALLEST_STEP)
    least = _error(data, best, form, keep)
    for share in CLIPPING_SHARES:
        step = (top * share / qmax).clamp(min=_SMALLEST_STEP)
        error = _error(data, step, form, keep)
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
    return best


def _error(x: Tensor, step: Tensor, form: NumberFormat, axes: list[int]) -> Tensor:
    """Return the squared error, summed in float64: cost paths find the same least one without torch."""
    rounded = (x / step).round().clamp(form.qmin, form.qmax) * step
    return (rounded - x).square().sum(axes, keepdim=True, dtype=torch.float64)


def wrap(x: Tensor, bits: int) -> Tensor:
    """Return integers modulo 2^bits in two's complement: what an adder chain of that width leaves, in any order."""
    half = 2.0 ** (bits - 1)
    wrapped = torch.remainder(x + half, 2 * half) - half
    return x + (wrapped - x).detach()
