"""`DeformConv2d`: a deformable convolution to train, in the forms that hardware likes.

Forms: free (Dai et al. 2017), bound (offsets clipped), square (one number d per pixel: tap (i, j) reads (r + i*d, c + j*d), a
per-pixel dilation), fixed (no offsets: d is 1); each may be rounded to whole pixels. Source of the last three: Huang et al. 2021
(CoDeNet, arXiv 2006.08357, section 3). In a graph: offset convolution, clip, round, the square's grid, one deformable
convolution.
"""

from math import floor
from numbers import Integral, Real
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picojoule.sim.errors import InputError
from picojoule.sim.numerics import deform_op
from picojoule.sim.numerics.straight_through import round_straight_through

FORMS = ("free", "bound", "square", "fixed")


class DeformConv2d(nn.Module):
    """Deformable convolution [B, C, H, W] -> [B, O, Oh, Ow] that starts as the ordinary one.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: of the filter, one number or (y, x).
        stride: one number or (y, x).
        padding: one number or (y, x).
        dilation: one number or (y, x).
        groups: 1 (full), or C = O for a depthwise one, or any in between.
        bias: whether the filters have one.
        offset_groups: groups of channels with offsets of their own.
        modulated: whether samples are weighted too, by 2 * sigmoid (Zhu et al. 2019 have sigmoid; twice it starts at 1).
        form: `free`, `bound`, `square` or `fixed`.
        bound: largest offset in pixels: free and bound ones lie in [-bound, bound], d of a square in [0, bound]; rounded ones
            never exceed it either. Clipping stops the gradient outside, as clipping does. Required for `bound`; None: unbounded.
        rounded: offsets (d) become whole, half to even, straight through: the gradient is that of the bilinear surface at the
            rounded place (at kinks see `deform_op`), handed on as if the offset had not been rounded.
        offset_kernel: size of the convolution that makes the offsets; 1 as in CoDeNet, 3 as often elsewhere.

    Raises:
        InputError: if an argument is no such number, or they do not fit each other; in use, for a map that does not fit.

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        offset_groups: int = 1,
        modulated: bool = False,
        form: Literal["free", "bound", "square", "fixed"] = "free",
        bound: float | None = None,
        rounded: bool = False,
        offset_kernel: int = 1,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = _pair(kernel_size, "kernel_size", 1), _pair(stride, "stride", 1)
        self.padding, self.dilation = _pair(padding, "padding", 0), _pair(dilation, "dilation", 1)
        self.in_channels, self.out_channels = _count(in_channels, "in_channels"), _count(out_channels, "out_channels")
        self.groups, self.offset_groups = _count(groups, "groups"), _count(offset_groups, "offset_groups")
        self.offset_kernel = _count(offset_kernel, "offset_kernel")
        self.modulated, self.form, self.bound, self.rounded = modulated, form, bound, rounded
        self._check()
        kh, kw = self.kernel_size
        plain = nn.Conv2d(
            self.in_channels, self.out_channels, (kh, kw), groups=self.groups, bias=bias
        )  # for initial values
        self.weight, self.bias = plain.weight, plain.bias
        taps, self._margin = kh * kw, self._offset_padding()
        count = {"square": 1, "fixed": 0}.get(form, 2 * taps) * self.offset_groups
        self.offset_conv = self._zero_conv(count, 1.0 if form == "square" else 0.0) if count else None
        self.mask_conv = self._zero_conv(taps * self.offset_groups, 0.0) if modulated else None
        rows = (torch.arange(kh) - (kh - 1) / 2) * self.dilation[0]
        cols = (torch.arange(kw) - (kw - 1) / 2) * self.dilation[1]
        grid = torch.stack([rows.repeat_interleave(kw), cols.repeat(kh)], 1).reshape(1, 1, 2 * taps, 1, 1)
        self.register_buffer("grid", grid if form == "square" else None, persistent=False)

    def _check(self) -> None:
        name = "DeformConv2d"
        if self.form not in FORMS:
            raise InputError(f"{name}: unknown form '{self.form}'; choose from {', '.join(FORMS)}")
        for what in ("groups", "offset_groups"):
            if self.in_channels % getattr(self, what):
                raise InputError(f"{name}: {self.in_channels} channels do not divide into {what}={getattr(self, what)}")
        if self.out_channels % self.groups:
            raise InputError(f"{name}: {self.out_channels} filters do not divide into groups={self.groups}")
        if self.form == "bound" and self.bound is None:
            raise InputError(f"{name}: form 'bound' needs bound=, the largest offset in pixels (the paper has 7)")
        if self.bound is not None and not (_is(self.bound, Real) and 0 < self.bound < float("inf")):
            raise InputError(f"{name}: bound must be a positive number of pixels, got {self.bound!r}")
        if self.form == "square" and (self.bound or 1) < 1:
            raise InputError(f"{name}: a square starts at d = 1, so its bound must be at least 1, got {self.bound}")
        if self.rounded and (self.bound or 1) < 1:
            raise InputError(
                f"{name}: whole offsets within {self.bound} are all 0; take bound=1 or more, or form='fixed'"
            )
        if self.form == "fixed" and (self.bound is not None or self.modulated):
            raise InputError(f"{name}: form 'fixed' has no offsets, so it takes neither bound= nor modulated=True")
        if self.form == "square" and not all(k % 2 for k in self.kernel_size):
            raise InputError(f"{name}: a square has a middle tap, so kernel_size must be odd, got {self.kernel_size}")

    def _offset_padding(self) -> tuple[int, int]:
        """Return the padding (y, x) that gives the offset convolution the ofmap's size; negative: the map is cut."""
        twice = [2 * p + self.offset_kernel - 1 - d * (k - 1)
                 for p, d, k in zip(self.padding, self.dilation, self.kernel_size, strict=True)]  # fmt: skip
        if any(t % 2 for t in twice):
            raise InputError(
                f"DeformConv2d: an offset convolution of {self.offset_kernel} cannot be centered on a kernel of "
                f"{self.kernel_size}; take offset_kernel={self.offset_kernel % 2 + 1} or odd kernels"
            )
        return twice[0] // 2, twice[1] // 2

    def _zero_conv(self, channels: int, bias: float) -> nn.Conv2d:
        """Return a convolution with as many outputs as this one has, that gives `bias` everywhere at first."""
        outer = (max(0, self._margin[0]), max(0, self._margin[1]))
        made = nn.Conv2d(self.in_channels, channels, self.offset_kernel, self.stride, outer)
        nn.init.zeros_(made.weight)
        assert made.bias is not None
        nn.init.constant_(made.bias, bias)
        return made

    def _cut(self, x: Tensor) -> Tensor:
        """Return x without the margin that the filter, but not the offset convolution, looks at."""
        y, z = (min(0, m) for m in self._margin)
        return F.pad(x, (z, z, y, y)) if y or z else x

    def offsets(self, x: Tensor) -> Tensor:
        """Return the offsets [B, offset_groups * taps * 2, Oh, Ow] in pixels, (y, x) per tap, as they are used for x.

        Raises:
            InputError: for a map that does not fit (see `forward`).

        """
        self._check_map(x)
        if self.offset_conv is None:
            size = [
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, p, d, k, s in zip(
                    x.shape[2:], self.padding, self.dilation, self.kernel_size, self.stride, strict=True
                )
            ]
            return x.new_zeros(x.shape[0], 2 * self.kernel_size[0] * self.kernel_size[1] * self.offset_groups, *size)
        moves: Tensor = self.offset_conv(self._cut(x))
        reach = self.bound if self.bound is None or not self.rounded else floor(self.bound)  # 1.5 would be rounded to 2
        if self.form == "square":
            moves = moves.clamp(0.0, reach)
        elif reach is not None:
            moves = moves.clamp(-reach, reach)
        if self.rounded:
            moves = round_straight_through(moves)
        if self.grid is not None:
            assert isinstance(self.grid, Tensor)
            moves = ((moves - 1.0).unsqueeze(2) * self.grid).flatten(1, 2)
        return moves

    def _check_map(self, x: Any) -> None:
        """Refuse what the offset convolution would refuse in words of its own."""
        if not isinstance(x, Tensor) or x.dim() != 4 or not x.is_floating_point():
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"DeformConv2d: its input must be a real tensor [B, C, H, W], got {got}")
        if x.shape[1] != self.in_channels:
            raise InputError(f"DeformConv2d: takes {self.in_channels} channels, got {x.shape[1]} in {list(x.shape)}")
        window = [
            d * (k - 1) + 1 - 2 * p for p, d, k in zip(self.padding, self.dilation, self.kernel_size, strict=True)
        ]
        if x.shape[2] < window[0] or x.shape[3] < window[1]:
            raise InputError(
                f"DeformConv2d: the map must be at least {max(1, window[0])} x {max(1, window[1])} for a kernel of "
                f"{self.kernel_size} with dilation {self.dilation} and padding {self.padding}, got {list(x.shape[2:])}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the deformable convolution of x [B, C, H, W].

        Raises:
            InputError: if x is no real tensor of four axes, has other channels, or is smaller than the window.

        """
        self._check_map(x)
        mask = None if self.mask_conv is None else 2.0 * torch.sigmoid(self.mask_conv(self._cut(x)))
        made: Tensor = deform_op.deform_conv2d(
            x, self.weight, self.offsets(x), mask, self.bias, self.stride, (*self.padding, *self.padding), self.dilation,
            self.groups, self.offset_groups,
        )  # fmt: skip
        return made

    def extra_repr(self) -> str:
        """Return what is printed between the parentheses."""
        bound = "" if self.bound is None else f", bound={self.bound}"
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, form={self.form}{bound}, "
            f"rounded={self.rounded}, modulated={self.modulated}"
        )


def _is(value: Any, kind: type) -> bool:
    """Whether a value is a number of a kind; a truth value is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _count(value: Any, what: str) -> int:
    if not _is(value, Integral) or value < 1:
        raise InputError(f"DeformConv2d: {what} must be a whole number from 1 on, got {value!r}")
    return int(value)


def _pair(value: Any, what: str, least: int) -> tuple[int, int]:
    """Return (y, x) of one number or two."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(_is(v, Integral) and v >= least for v in pair):
        raise InputError(
            f"DeformConv2d: {what} must be a whole number from {least} on, or two of them (y, x), got {value!r}"
        )
    return int(pair[0]), int(pair[1])
