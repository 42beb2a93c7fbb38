"""The window of a deformable convolution, and whether its operands fit each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from picojoule.sim.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where taps lie before they move; pairs are (y, x), the padding is (top, left, bottom, right), `out` the ofmap's size."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    offset_groups: int
    out: tuple[int, int]


def check_operands(
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
) -> Window:
    """Return the window of operands that fit each other.

    Raises:
        InputError: naming the operand that does not fit, what it should be, and what it is.

    """
    for name, value, rank in (
        ("x", x, 4),
        ("weight", weight, 4),
        ("offset", offset, 4),
        ("mask", mask, 4),
        ("bias", bias, 1),
    ):
        if value is not None and (value.dim() != rank or not value.is_floating_point()):
            raise InputError(
                f"deform_conv2d: {name} must be a real tensor of {rank} axes, got {value.dtype} {list(value.shape)}"
            )
    if len(stride) != 2 or len(dilation) != 2 or len(padding) != 4 or min(*stride, *dilation) < 1 or min(padding) < 0:
        raise InputError(
            f"deform_conv2d: stride and dilation must be two numbers from 1 on and padding four from 0 on, got {list(stride)}, "
            f"{list(dilation)} and {list(padding)}"
        )
    channels, out, kernel = x.shape[1], weight.shape[0], (weight.shape[2], weight.shape[3])
    if groups < 1 or channels != weight.shape[1] * groups or out % groups:
        raise InputError(
            f"deform_conv2d: {out} filters of {weight.shape[1]} channels in {groups} groups do not fit {channels} channels"
        )
    if offset_groups < 1 or channels % offset_groups:
        raise InputError(f"deform_conv2d: {channels} channels cannot be shared by {offset_groups} offset groups")
    top, left, bottom, right = padding
    size = tuple(
        (x.shape[2 + i] + pad - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i, pad in enumerate((top + bottom, left + right))
    )
    if min(size) < 1:
        raise InputError(
            f"deform_conv2d: a window of {list(kernel)} does not fit the ifmap {list(x.shape[2:])} with its padding"
        )
    for name, value, each in (("offset", offset, 2), ("mask", mask, 1)):
        wanted = (each * offset_groups * kernel[0] * kernel[1], *size)
        if value is not None and (tuple(value.shape[1:]) != wanted or value.shape[0] != x.shape[0]):
            raise InputError(
                f"deform_conv2d: {name} must have shape {[x.shape[0], *wanted]} for these windows, got {list(value.shape)}"
            )
    if bias is not None and bias.shape[0] != out:
        raise InputError(f"deform_conv2d: {out} filters but a bias of {bias.shape[0]}")
    return Window(
        kernel=kernel,
        stride=(stride[0], stride[1]),
        padding=(top, left, bottom, right),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
        offset_groups=offset_groups,
        out=(size[0], size[1]),
    )
