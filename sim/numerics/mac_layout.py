"""MAC layers as matrix products: weights as matrices, inputs as columns, results put back where they belong."""

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from picojoule.sim.attributes import ConvAttributes, DeformConvAttributes, Op
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Layer
from picojoule.sim.numerics.float_windows import padding_of
from picojoule.sim.protocol import IntegerProduct

_BLOCK_BYTES = 1 << 20  # windows of one product: about a second-level cache


def through_hardware(layer: Layer, x: Tensor, w: Tensor, products: list[IntegerProduct], signed: bool) -> Tensor:
    """Return a layer's product through the hardware, matrix by matrix, as float64 integers.

    `x` and `w` hold integer codes, `products` the matrices of `weight_matrices` in the hardware; `signed` says whether the
    format of x has a sign.
    """
    a = layer.attributes
    if isinstance(a, ConvAttributes) and a.transposed:
        return _transposed_conv(a, x, tuple(w.shape), products, signed)
    if isinstance(a, ConvAttributes):
        return _conv(a, x, tuple(w.shape), products, signed)
    if isinstance(a, DeformConvAttributes):
        raise UnsupportedError(
            f"layer '{layer.name}': sampled inputs are not integers, so this hardware cannot take them"
        )
    if layer.op is Op.MATMUL and w.dim() > 2:
        return _stacked(x, tuple(w.shape), products, signed)
    flat = x.reshape(-1, x.shape[-1])
    y = multiply(products[0], flat.transpose(0, 1), signed).transpose(0, 1)
    return y.reshape(*x.shape[:-1], -1)


def _stacked(x: Tensor, w_shape: tuple[int, ...], products: list[IntegerProduct], signed: bool) -> Tensor:
    """Return x [..., m, k] times a stack of matrices [..., k, n], whose leading axes broadcast."""
    lead = np.broadcast_shapes(tuple(x.shape[:-2]), w_shape[:-2])
    rows = x.expand(*lead, *x.shape[-2:]).reshape(-1, *x.shape[-2:])
    of_row = torch.arange(len(products)).reshape(w_shape[:-2]).expand(lead).reshape(-1)
    y = torch.empty((len(rows), x.shape[-2], w_shape[-1]), dtype=torch.float64)
    for i, product in enumerate(products):
        mine = rows[of_row == i]
        made = multiply(product, mine.reshape(-1, mine.shape[-1]).transpose(0, 1), signed)
        y[of_row == i] = made.transpose(0, 1).reshape(len(mine), *y.shape[1:])
    return y.reshape(*lead, *y.shape[1:])


def multiply(product: IntegerProduct, columns: Tensor, signed: bool) -> Tensor:
    """Return [out, columns] for integer columns [in, columns]."""
    return torch.from_numpy(np.ascontiguousarray(product.matmul(_narrow(columns).contiguous().numpy(), signed=signed)))


def channel_axis(layer: Layer, rank: int) -> int:
    """Return the axis of a result of `rank` axes that counts output channels."""
    return 1 if layer.op in (Op.CONV, Op.DEFORM_CONV) else rank - 1


def reduction_axis(layer: Layer, position: int) -> tuple[int, int]:
    """Return the axis of operand 0 or 1 along which products are summed (channels, not taps), and the groups it is cut into."""
    a = layer.attributes
    if isinstance(a, ConvAttributes | DeformConvAttributes):
        transposed = isinstance(a, ConvAttributes) and a.transposed
        return (1, a.groups) if position == 0 else (0, a.groups) if transposed else (1, 1)
    return (-2 if layer.op is Op.MATMUL and position == 1 else -1), 1


def weight_channel_axis(layer: Layer) -> int | None:
    """Return the axis of a layer's weights that counts output channels; None where groups mix them."""
    a = layer.attributes
    if isinstance(a, ConvAttributes) and a.transposed:
        return 1 if a.groups == 1 else None
    return len(layer.operands[1].shape) - 1 if layer.op is Op.MATMUL else 0


def weight_matrices(layer: Layer, w: Tensor) -> Tensor:
    """Return the weights as [groups, out, in] matrices, one per group (or matrix of a stack)."""
    a = layer.attributes
    if isinstance(a, ConvAttributes) and a.transposed:  # [in, out/g, *kernel] -> [g, out/g * kernel, in/g]
        return w.reshape(a.groups, w.shape[0] // a.groups, prod(w.shape[1:])).transpose(1, 2)
    if isinstance(a, ConvAttributes | DeformConvAttributes):
        return w.reshape(a.groups, w.shape[0] // a.groups, prod(w.shape[1:]))
    if layer.op is Op.MATMUL:
        return w.reshape(-1, *w.shape[-2:]).transpose(1, 2)
    return w.unsqueeze(0)


def _conv(
    a: ConvAttributes, x: Tensor, w_shape: tuple[int, ...], products: list[IntegerProduct], signed: bool
) -> Tensor:
    """Multiply the windows of a few images at a time, so that they stay in the cache: copies of pixels multiply the data."""
    padded = torch.nn.functional.pad(_narrow(x), padding_of(a.padding_begin, a.padding_end)).contiguous().numpy()
    rows, outputs = w_shape[1] * prod(w_shape[2:]), w_shape[0] // a.groups
    space = _windows(a, padded, w_shape[2:]).shape[-len(a.stride) :]
    y = np.empty((len(padded), w_shape[0], *space))
    images = max(1, _BLOCK_BYTES // max(1, rows * prod(space) * padded.itemsize))
    for first in range(0, len(padded), images):
        block = slice(first, first + images)
        windows = _windows(a, padded[block], w_shape[2:])
        for g, product in enumerate(products):
            made = product.matmul(windows[g].reshape(rows, -1), signed=signed).reshape(outputs, -1, *space)
            y[block, g * outputs : (g + 1) * outputs] = made.swapaxes(0, 1)
    return torch.from_numpy(y)


def _windows(a: ConvAttributes, padded: NDArray[Any], kernel: tuple[int, ...]) -> NDArray[Any]:
    """Return a view of padded inputs [batch, in, *space] as windows [groups, in/groups, *kernel, batch, *output space]."""
    batch, channels, *space = padded.shape
    counts = [
        (size - d * (taps - 1) - 1) // s + 1
        for size, d, taps, s in zip(space, a.dilation, kernel, a.stride, strict=True)
    ]
    of_batch, of_channel, *of_space = padded.strides
    inside = channels // a.groups
    return np.lib.stride_tricks.as_strided(
        padded,
        (a.groups, inside, *kernel, batch, *counts),
        (
            of_channel * inside,
            of_channel,
            *(step * d for step, d in zip(of_space, a.dilation, strict=True)),
            of_batch,
            *(step * s for step, s in zip(of_space, a.stride, strict=True)),
        ),
        writeable=False,
    )


def _narrow(x: Tensor) -> Tensor:
    """Return integer codes in the narrowest integer type that holds all of them."""
    if x.numel() == 0:
        return x.to(torch.uint8)
    low, high = (float(end) for end in torch.aminmax(x))
    for kind in (torch.uint8, torch.int8, torch.int16, torch.int32):
        if torch.iinfo(kind).min <= low and high <= torch.iinfo(kind).max:
            return x.to(kind)
    return x.to(torch.int64)


def _transposed_conv(
    a: ConvAttributes, x: Tensor, w_shape: tuple[int, ...], products: list[IntegerProduct], signed: bool
) -> Tensor:
    """Multiply each input pixel by all taps, then add the taps where they land."""
    rank, kernel, out = len(a.stride), w_shape[2:], w_shape[1] * a.groups
    batch, space = x.shape[0], tuple(x.shape[2:])
    pixels = x.movedim(1, 0).reshape(a.groups, x.shape[1] // a.groups, -1)
    columns = torch.cat([multiply(p, c, signed) for p, c in zip(products, pixels, strict=True)])
    columns = columns.reshape(out, prod(kernel), batch, *space)
    extra = a.output_padding or (0,) * rank
    full = [(s - 1) * a.stride[i] + a.dilation[i] * (kernel[i] - 1) + 1 + extra[i] for i, s in enumerate(space)]
    y = torch.zeros((batch, out, *full), dtype=torch.float64)
    for tap in range(prod(kernel)):
        place: list[int] = []
        rest = tap
        for size in reversed(kernel):
            rest, digit = divmod(rest, size)
            place.insert(0, digit)
        where = [
            slice(p * a.dilation[i], p * a.dilation[i] + (space[i] - 1) * a.stride[i] + 1, a.stride[i])
            for i, p in enumerate(place)
        ]
        y[(slice(None), slice(None), *where)] += columns[:, tap].movedim(0, 1)
    cut = [slice(b, y.shape[2 + i] - e) for i, (b, e) in enumerate(zip(a.padding_begin, a.padding_end, strict=True))]
    return y[(slice(None), slice(None), *cut)]
