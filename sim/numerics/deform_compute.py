"""What `deform_op` computes, on the CPU: columns of samples times filters, and back; ordinary convolution where nothing moves.

Kernels are imported when they are needed: they bring the compiler with them.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from picojoule.sim.numerics.deform_window import Window

Several = tuple[Tensor, Tensor, Tensor, Tensor]


def prepared(value: Tensor, x: Tensor) -> Tensor:
    """Return a tensor on the CPU in the precision of the computation for x: float64 where x is that, else float32."""
    return value.detach().to(device="cpu", dtype=torch.float64 if x.dtype is torch.float64 else torch.float32)


def plain(x: Tensor, weight: Tensor, bias: Tensor | None, w: Window) -> Tensor:
    """Return the ordinary convolution of the same window."""
    top, left, bottom, right = w.padding
    if (top, left) == (bottom, right):
        return F.conv2d(x, weight, bias, w.stride, (top, left), w.dilation, w.groups)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, w.stride, 0, w.dilation, w.groups)


def plain_backward(gradient: Tensor, x: Tensor, weight: Tensor, w: Window, wanted: Sequence[bool]) -> Several:
    """Return the gradients of the ordinary convolution, none for offsets and mask."""
    top, left, bottom, right = w.padding
    padded = F.pad(x, (left, right, top, bottom))
    asked = [bool(wanted[0]), bool(wanted[1]), False]
    g_padded, g_weight, _ = torch.ops.aten.convolution_backward(
        gradient, padded, weight, None, w.stride, (0, 0), w.dilation, False, (0, 0), w.groups, asked
    )
    height, width = x.shape[2:]
    g_x = g_padded[:, :, top : top + height, left : left + width].contiguous() if wanted[0] else x.new_empty(0)
    return g_x, g_weight if wanted[1] else x.new_empty(0), x.new_empty(0), x.new_empty(0)


def _pixels_last(x: Tensor) -> Tensor:
    """Return x [B, C, H, W] as [B, H * W + 1, C]; the last pixel is zero."""
    batch, channels, height, width = x.shape
    made = x.new_zeros(batch, height * width + 1, channels)
    made[:, :-1] = x.flatten(2).transpose(1, 2)
    return made


def _pixels_first(made: Tensor, x: Tensor) -> Tensor:
    """Return what `_pixels_last` made of x back in x's shape."""
    batch, channels, height, width = x.shape
    return made.reshape(batch, height * width + 1, channels)[:, :-1].transpose(1, 2).reshape(x.shape)


class _Samples:
    """The tensors of a call as the kernels take them, sample by sample."""

    def __init__(self, x: Tensor, offset: Tensor, mask: Tensor | None, w: Window) -> None:
        from picojoule.sim.numerics import deform_kernels

        self.kernels, self.w = deform_kernels, w
        self.x = _pixels_last(x).flatten(1).numpy()
        self.offset = offset.flatten(2).contiguous().numpy()
        empty = np.zeros((len(self.x), 0, 0), self.x.dtype)
        self.mask = empty if mask is None else mask.flatten(2).contiguous().numpy()
        self.numbers = np.array(
            [*x.shape[2:], x.shape[1], w.offset_groups, *w.kernel, w.out[1], *w.stride, *w.padding[:2], *w.dilation]
        )

    def columns(self, b: int, into: Tensor) -> Tensor:
        """Fill and return `into` [P, K, C] with the samples of image b."""
        self.kernels.sample(self.x[b], self.offset[b], self.mask[b], self.numbers, into.numpy())
        return into


def _grouped(columns: Tensor, w: Window) -> Tensor:
    """Return columns [P, K, C] as [groups, P, K * C / groups]."""
    pixels, taps, channels = columns.shape
    if w.groups == 1:
        return columns.reshape(1, pixels, -1)
    return (
        columns.reshape(pixels, taps, w.groups, channels // w.groups).permute(2, 0, 1, 3).reshape(w.groups, pixels, -1)
    )


def _filters(weight: Tensor, w: Window) -> Tensor:
    """Return weights [O, C / groups, kh, kw] as [groups, K * C / groups, O / groups]."""
    out, share, kh, kw = weight.shape
    return (
        weight.reshape(w.groups, out // w.groups, share, kh * kw)
        .permute(0, 3, 2, 1)
        .reshape(w.groups, -1, out // w.groups)
    )


def _is_depthwise(filters: Tensor, w: Window) -> bool:
    return filters.shape[1] == w.kernel[0] * w.kernel[1] and filters.shape[2] == 1


def _filter_gradient(columns: Tensor, rows: Tensor, w: Window) -> Tensor:
    """Return the gradient of the filters [groups, K * C / groups, O / groups], given that of rows [groups, O / groups, P]."""
    if rows.shape[1] == 1 and columns.shape[2] == w.groups:
        return (columns * rows[:, 0].t().contiguous().unsqueeze(1)).sum(0).t().unsqueeze(2)
    return (rows @ _grouped(columns, w)).transpose(1, 2)


def _column_gradient(rows: Tensor, filters: Tensor, w: Window, taps: int) -> Tensor:
    """Return the gradient of the columns [P, K, C] given that of the ofmap, [groups, O / groups, P]."""
    if _is_depthwise(filters, w):
        return rows[:, 0].t().contiguous().unsqueeze(1) * filters[:, :, 0].t().contiguous()
    columns = rows.transpose(1, 2) @ filters.transpose(1, 2)  # [groups, P, K * C / groups]
    pixels = rows.shape[2]
    return columns.reshape(w.groups, pixels, taps, -1).permute(1, 2, 0, 3).reshape(pixels, taps, -1)


def forward(x: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, w: Window) -> Tensor:
    """Return the deformable convolution without bias; operands are on the CPU and of one type."""
    batch, channels = x.shape[:2]
    out, pixels, taps = weight.shape[0], w.out[0] * w.out[1], w.kernel[0] * w.kernel[1]
    made = x.new_empty(batch, out, pixels)
    samples = _Samples(x, offset, mask, w)
    if w.groups == channels == out:
        by_tap = weight.reshape(channels, taps).t().contiguous().numpy()
        for b in range(batch):
            rows = x.new_zeros(pixels, channels)
            samples.kernels.depthwise(
                samples.x[b], by_tap, samples.offset[b], samples.mask[b], samples.numbers, rows.numpy()
            )
            made[b] = rows.t()
        return made.reshape(batch, out, *w.out)
    filters, buffer = _filters(weight, w), x.new_empty(pixels, taps, channels)
    for b in range(batch):
        rows = _grouped(samples.columns(b, buffer), w) @ filters  # [groups, P, O / groups]
        made[b] = rows.transpose(1, 2).reshape(out, pixels)
    return made.reshape(batch, out, *w.out)


def backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    w: Window,
    wanted: Sequence[bool],
) -> Several:
    """Return the gradients of x, weight, offset and mask, [0] in place of one that is not wanted."""
    batch, channels = x.shape[:2]
    out, pixels, taps = weight.shape[0], w.out[0] * w.out[1], w.kernel[0] * w.kernel[1]
    samples = _Samples(x, offset, mask, w)
    filters, buffer = _filters(weight, w), x.new_empty(pixels, taps, channels)
    moving = bool(wanted[2] or wanted[3])
    g_x = np.zeros_like(samples.x if wanted[0] else samples.x[:, :0])
    g_offset = np.zeros_like(samples.offset if moving else samples.offset[:, :0])
    g_mask = np.zeros_like(samples.mask if moving else samples.mask[:, :0])
    g_filters = torch.zeros_like(filters)
    for b in range(batch):
        rows = gradient[b].reshape(w.groups, out // w.groups, pixels)
        if wanted[1]:
            columns = samples.columns(b, buffer)
            g_filters += _filter_gradient(columns, rows, w)
        if wanted[0] or moving:
            g_columns = _column_gradient(rows, filters, w, taps)
            samples.kernels.gradients(
                samples.x[b], samples.offset[b], samples.mask[b], samples.numbers, g_columns.contiguous().numpy(),
                (bool(wanted[0]), moving), g_x[b], g_offset[b], g_mask[b],
            )  # fmt: skip
    share = weight.shape[1]
    g_weight = g_filters.reshape(w.groups, taps, share, -1).permute(0, 3, 2, 1).reshape(weight.shape)
    return (
        _pixels_first(torch.from_numpy(g_x), x) if wanted[0] else x.new_empty(0),
        g_weight if wanted[1] else x.new_empty(0),
        torch.from_numpy(g_offset).reshape(offset.shape) if wanted[2] else x.new_empty(0),
        torch.from_numpy(g_mask).reshape(mask.shape) if wanted[3] and mask is not None else x.new_empty(0),
    )
