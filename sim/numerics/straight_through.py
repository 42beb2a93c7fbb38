"""Values whose gradient is that of something smooth (straight-through estimators, Bengio et al. 2013)."""

from typing import Any

import torch
from torch import Tensor


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, smooth: Tensor, value: Tensor) -> Tensor:
        ctx.type = smooth.dtype
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].to(ctx.type), None


def carrying_gradient(value: Tensor, smooth: Tensor) -> Tensor:
    """Return `value`, with `smooth` (of its shape, in any precision) receiving the gradient."""
    made: Tensor = _Carry.apply(smooth, value)  # type: ignore[no-untyped-call]
    return made


def round_straight_through(x: Tensor) -> Tensor:
    """Return x rounded half to even, also if infinite; one `round` in an exported graph, where gradients play no part."""
    if torch.compiler.is_exporting() or not (torch.is_grad_enabled() and x.requires_grad):
        return x.round()
    made: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return made
