"""What a loss adds to make bit slices sparse: plain L1, bit-slice L1, and our excess of crossbar columns.

Bit-slice L1 (Zhang et al. 2019, arXiv:1908.09496): alpha / (4 N) * sum of all slice levels. Floors and roundings pass gradients,
which leaves, per weight, alpha / (4 N) * sign(w) / step * (1[b0>0] + 1[b1>0]/4 + 1[b2>0]/16 + 1[b3>0]/64): an empty slice
pulls no longer, the least significant one that holds something pulls hardest.

That penalises the mean level, but a converter is as wide as the *largest* column sum asks. `excess` charges only columns
whose sum passes what the wanted converter can take, in units of the weight (level * 4^k * step), times a price per slice.
Its gradient has the same size for every slice, and points to the nearest code at which the slice is empty, up or down.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from picojoule.compress.bitslice_slices import (
    SLICES,
    TILE_ROWS,
    magnitudes,
    polarities,
    slice_levels,
    step_of,
    tiled,
    untiled,
)

Mean = Callable[[Sequence[Tensor]], Tensor]
"""A mean over all weights of some layers."""


def mean_magnitude(weights: Sequence[Tensor]) -> Tensor:
    """Return the mean of |w| over all weights (plain L1)."""
    count = sum(w.numel() for w in weights)
    return torch.stack([w.abs().sum() for w in weights]).sum() / count


def mean_slice_level(weights: Sequence[Tensor], steps: Sequence[float]) -> Tensor:
    """Return the mean slice level over all slices of all weights; bit-slice L1 is alpha times this."""
    count = SLICES * sum(w.numel() for w in weights)
    sums = [_Levels.apply(w, s) for w, s in zip(weights, steps, strict=True)]  # type: ignore[no-untyped-call]
    return torch.stack(sums).sum() / count


class _Levels(torch.autograd.Function):
    """Sum of all slice levels of a weight, with the gradient derived above."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, weight: Tensor, step: float) -> Tensor:
        codes = magnitudes(weight, step)
        total = weight.new_zeros(())
        slope = torch.zeros_like(codes)
        for k in range(SLICES):
            levels = slice_levels(codes, k)
            total += levels.sum()
            slope += (levels > 0) * 0.25**k
        ctx.save_for_backward(slope.mul_(weight.sign() / step))
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0] * slope, None


def excess(
    weights: Sequence[Tensor],
    exponents: Sequence[int],
    largest: Sequence[int],
    prices: Sequence[float],
    rows: int = TILE_ROWS,
) -> Tensor:
    """Return sum over slices of price * sum over columns of max(0, column sum - largest) * 4^k * step.

    `largest`: the largest sum that the wanted converter of each slice passes (least significant first); `prices`: what a bit
    more costs there. A column is one polarity of one output in one row tile. Only columns that pass the limit have a gradient.
    """
    total = weights[0].new_zeros(())
    for weight, exponent in zip(weights, exponents, strict=True):
        over = _Excess.apply(weight, step_of(exponent), tuple(largest), tuple(prices), rows)  # type: ignore[no-untyped-call]
        total = total + over
    return total


class _Excess(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        weight: Tensor,
        step: float,
        largest: tuple[int, ...],
        prices: tuple[float, ...],
        rows: int,
    ) -> Tensor:
        tiles = tiled(weight.detach(), rows)
        codes = polarities(magnitudes(tiles, step).copysign(tiles))
        total = weight.new_zeros(())
        slope = torch.zeros_like(codes)
        for k in range(SLICES):
            levels = slice_levels(codes, k)
            over = levels.sum(-1, keepdim=True) - largest[k]
            total += prices[k] * step * 4**k * over.clamp(min=0).sum()
            pull = (levels > 0).to(codes)
            if any(largest[k + 1 :]):  # a code above is allowed: go where the slice is empty soonest
                pull = torch.where(torch.remainder(codes, 4.0 ** (k + 1)) > 2.5 * 4**k, -pull, pull)
            slope += (over > 0) * pull * prices[k]
        ctx.save_for_backward(untiled(slope[0] - slope[1], weight.shape, rows))
        return total

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0] * slope, None, None, None, None
