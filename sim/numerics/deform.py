"""Deformable 2-D convolution by bilinear gathering, as ONNX DeformConv (opset 19) defines it.

Source: Dai et al. 2017 (sampling, section 2.1), Zhu et al. 2019 (modulation mask); layout of offsets from the ONNX operator.
"""

import torch
from torch import Tensor

from picojoule.sim.attributes import DeformConvAttributes


def deform_conv2d(
    x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None, a: DeformConvAttributes
) -> Tensor:
    """Return the deformable convolution [B, O, Oh, Ow].

    Args:
        x: [B, C, H, W].
        weight: [O, C / groups, kh, kw].
        offset: [B, offset_groups * kh * kw * 2, Oh, Ow], (y, x) pairs in pixels per tap.
        mask: [B, offset_groups * kh * kw, Oh, Ow] or None.
        bias: [O] or None.
        a: strides, padding, dilation, groups and offset groups.

    Samples outside the ifmap are zero; the four neighbours are weighted bilinearly.

    """
    batch, channels, _, _ = x.shape
    out, _, kh, kw = weight.shape
    oh, ow = offset.shape[-2:]
    taps = kh * kw
    columns = sample_columns(x, offset, mask, (kh, kw), a)  # [B, C, taps, Oh*Ow]
    columns = columns.reshape(batch, a.groups, channels // a.groups * taps, oh * ow)
    filters = weight.reshape(a.groups, out // a.groups, -1)
    y = torch.einsum("gok,bgkp->bgop", filters, columns).reshape(batch, out, oh, ow)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def sample_columns(
    x: Tensor, offset: Tensor, mask: Tensor | None, kernel: tuple[int, int], a: DeformConvAttributes
) -> Tensor:
    """Return the sampled (and modulated) inputs [B, C, taps, pixels] that the filters multiply."""
    batch, channels, height, width = x.shape
    kh, kw = kernel
    oh, ow = offset.shape[-2:]
    groups = a.offset_groups
    moves = offset.reshape(batch, groups, kh * kw, 2, oh, ow)
    tap_y = (torch.arange(kh) * a.dilation[0]).repeat_interleave(kw).reshape(-1, 1, 1)
    tap_x = (torch.arange(kw) * a.dilation[1]).repeat(kh).reshape(-1, 1, 1)
    row = (torch.arange(oh) * a.stride[0] - a.padding_begin[0]).reshape(1, -1, 1)
    col = (torch.arange(ow) * a.stride[1] - a.padding_begin[1]).reshape(1, 1, -1)
    y = moves[:, :, :, 0] + (tap_y + row).to(x.dtype)  # [B, G, taps, Oh, Ow]
    z = moves[:, :, :, 1] + (tap_x + col).to(x.dtype)
    y0, z0 = y.floor(), z.floor()
    planes = x.reshape(batch, groups, channels // groups, height * width)
    total = torch.zeros((), dtype=x.dtype)
    for dy in (0, 1):
        for dz in (0, 1):
            at_y, at_z = y0 + dy, z0 + dz
            share = (1 - (y - at_y).abs()) * (1 - (z - at_z).abs())
            inside = (at_y >= 0) & (at_y < height) & (at_z >= 0) & (at_z < width)
            index = at_y.clamp(0, height - 1).long() * width + at_z.clamp(0, width - 1).long()
            index = index.reshape(batch, groups, 1, -1).expand(-1, -1, channels // groups, -1)
            values = planes.gather(3, index)
            total = total + values * (share * inside).reshape(batch, groups, 1, -1)
    if mask is not None:
        total = total * mask.reshape(batch, groups, 1, -1)
    return total.reshape(batch, channels, kh * kw, oh * ow)
