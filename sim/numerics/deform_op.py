"""The operator `picojoule::deform_conv2d`: deformable convolution as torch knows an operator of its own.

It stays one node in `torch.export` and `.pt2` files, has gradients (once differentiable), a rule for shapes with an open batch
and one for counting operations. Importing this module registers it. It computes on the CPU (elsewhere tensors are carried
there and back), in float64 where x is, else in float32; kernels are compiled on first use. Where all offsets are zero and there
is no mask it *is* torch's ordinary convolution, bit for bit.

Meaning: ONNX DeformConv, opsets 19 and 22; Dai et al. 2017 (sampling, section 2.1), Zhu et al. 2019 (modulation). Samples
outside the ifmap are zero. A NaN offset makes that sample NaN. The bilinear surface has kinks at whole positions; its gradient
there is the mean of the two sides' (other implementations take the side below and right, which biases rounded offsets).
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from picojoule.sim.numerics import deform_compute
from picojoule.sim.numerics.deform_compute import Several, prepared
from picojoule.sim.numerics.deform_window import check_operands


@torch.library.custom_op("picojoule::deform_conv2d", mutates_args=())
def deform_conv2d(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    offset_groups: int,
) -> Tensor:
    """Return the deformable convolution [B, O, Oh, Ow].

    Args:
        x: [B, C, H, W].
        weight: [O, C / groups, kh, kw].
        offset: [B, offset_groups * kh * kw * 2, Oh, Ow], (y, x) pairs in pixels per tap.
        mask: [B, offset_groups * kh * kw, Oh, Ow] or None.
        bias: [O] or None.
        stride: (y, x).
        padding: (top, left, bottom, right).
        dilation: (y, x).
        groups: of the filters.
        offset_groups: groups of channels that share offsets.

    Raises:
        InputError: if shapes do not fit each other.

    """
    window = check_operands(x, weight, offset, mask, bias, stride, padding, dilation, groups, offset_groups)
    if mask is None and not offset.any():
        return deform_compute.plain(x, weight.to(x), None if bias is None else bias.to(x), window).contiguous()
    x_, weight_, offset_ = (prepared(t, x) for t in (x, weight, offset))
    y = deform_compute.forward(x_, weight_, offset_, None if mask is None else prepared(mask, x), window)
    if bias is not None:
        y += bias.to(y).reshape(1, -1, 1, 1)
    return y.to(x)


@deform_conv2d.register_fake
def _shape(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    offset_groups: int,
) -> Tensor:
    window = check_operands(x, weight, offset, mask, bias, stride, padding, dilation, groups, offset_groups)
    return x.new_empty(x.shape[0], weight.shape[0], *window.out)


@torch.library.custom_op("picojoule::deform_conv2d_backward", mutates_args=())
def deform_conv2d_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    offset_groups: int,
    wanted: Sequence[bool],
) -> Several:
    """Return the gradients of x, weight, offset and mask, [0] in place of one that is not `wanted`."""
    window = check_operands(x, weight, offset, mask, None, stride, padding, dilation, groups, offset_groups)
    if mask is None and not wanted[2] and not offset.any():
        g_x, g_weight, *none = deform_compute.plain_backward(gradient, x, weight.to(x), window, wanted)
        return g_x, g_weight.to(weight), none[0], none[1]
    gradient_, x_, weight_, offset_ = (prepared(t, x) for t in (gradient, x, weight, offset))
    mask_ = None if mask is None else prepared(mask, x)
    g_x, g_weight, g_offset, g_mask = deform_compute.backward(gradient_, x_, weight_, offset_, mask_, window, wanted)
    return g_x.to(x), g_weight.to(weight), g_offset.to(offset), g_mask if mask is None else g_mask.to(mask)


@deform_conv2d_backward.register_fake
def _backward_shape(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    offset_groups: int,
    wanted: Sequence[bool],
) -> Several:
    made = [torch.empty_like(t) if w else t.new_empty(0) for t, w in zip((x, weight, offset), wanted, strict=False)]
    g_mask = torch.empty_like(mask) if mask is not None and wanted[3] else x.new_empty(0)
    return made[0], made[1], made[2], g_mask


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, offset, mask, bias, *rest = inputs
    ctx.save_for_backward(x, weight, offset, mask)
    ctx.rest, ctx.bias_type = rest, None if bias is None else bias.dtype


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, offset, mask = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wanted = [bool(needs[i]) for i in range(4)]
    made: Sequence[Tensor | None] = (None, None, None, None)
    if any(wanted):
        made = deform_conv2d_backward(gradient, x, weight, offset, mask, *ctx.rest, wanted)
    g_bias = gradient.sum((0, 2, 3)).to(ctx.bias_type) if needs[4] and ctx.bias_type is not None else None
    return (*(t if w else None for t, w in zip(made, wanted, strict=True)), g_bias, *[None] * 5)


deform_conv2d.register_autograd(_gradient, setup_context=_keep)


# --- operation counts --------------------------------------------------------------------------------------------------


@register_flop_formula(torch.ops.picojoule.deform_conv2d)
def _flops(x: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Sequence[int], **_kwargs: Any) -> int:
    """Two per multiply-accumulate of the filter, as torch counts a convolution; the interpolation is not counted."""
    return 2 * prod(out_shape) * prod(weight[1:])


@register_flop_formula(torch.ops.picojoule.deform_conv2d_backward)
def _backward_flops(g: Sequence[int], x: Sequence[int], weight: Sequence[int], *rest: Any, **_kwargs: Any) -> int:
    """As much again for the samples' gradient and for the filters', where they are wanted."""
    wanted: Sequence[bool] = rest[-1]
    return 2 * prod(g) * prod(weight[1:]) * int((wanted[0] or wanted[2] or wanted[3]) + wanted[1])
