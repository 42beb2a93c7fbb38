"""A small detector of center points (CenterNet: Zhou et al. 2019, arXiv:1904.07850) with two places for an operator to compare.

The body falls to a quarter of the image's size and keeps it: a 3x3 convolution of stride 2, a depthwise 3x3 of stride 2 with a
1x1, and another depthwise pair. Then come two *slots* holding the operator under study, and three 1x1 heads: a heat map for
each class, the size and the offset of a box. The variants are those of CoDeNet's ablation (Huang et al. 2021,
arXiv:2006.08357, table 1), with the same channels everywhere.

The body is short on purpose: before the slots a feature sees 15 pixels, after two 3x3 slots 31, less than the largest items
of `scenes`. What all variants share starts from the same weights, whatever the variant; offsets start at zero, so a
deformable slot starts as the depthwise one. Channel counts are multiples of 16 at full width, as the published engine
pads to 16.
"""

import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from picojoule.models.scenes import CLASS_NAMES, SIDE
from picojoule.sim.errors import InputError, unknown_choice
from picojoule.sim.numerics.deform_module import DeformConv2d

Variant = Literal[
    "conv3",
    "depthwise",
    "conv5",
    "deform_free",
    "deform_bound",
    "deform_square",
    "square_round",
    "conv3_w4a8",
    "depthwise_w4a8",
    "conv5_w4a8",
    "deform_bound_w4a8",
    "deform_square_w4a8",
    "square_round_w4a8",
]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
SAMPLING_VARIANTS = frozenset(v for v in VARIANTS if v.startswith(("deform", "square")))
BOUNDED_VARIANTS = SAMPLING_VARIANTS - {"deform_free"}
FINE_TUNED = "_w4a8"
"""Ending of variants that are fine-tuned at 4-bit weights and 8-bit activations, their offsets rounded (as CoDeNet does, whose
rounding is a part of quantisation); `square_round` is rounded from the first step on."""
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "conv3": "ordinary 3x3",
        "depthwise": "depthwise 3x3",
        "conv5": "depthwise 5x5",
        "deform_free": "deformable, free",
        "deform_bound": "deformable, bound",
        "deform_square": "deformable, square",
        "square_round": "square + round",
        "conv3_w4a8": "ordinary 3x3, W4A8",
        "depthwise_w4a8": "depthwise 3x3, W4A8",
        "conv5_w4a8": "depthwise 5x5, W4A8",
        "deform_bound_w4a8": "bound, rounded in W4A8",
        "deform_square_w4a8": "square, rounded in W4A8",
        "square_round_w4a8": "square + round, W4A8",
    }
)
STRIDE = 4
"""Image pixels per cell of the maps."""
BOUND = 7.0
WIDTHS = (0.25, 4.0)

_STEM, _CHANNELS = 16, 64


class CentreNet(nn.Module):
    """The detector: images [batch, 1, h, w] to heat, size and offset maps; see the module's docstring."""

    def __init__(self, variant: Variant, *, width: float, bound: float, classes: int, channels: int = 1) -> None:
        super().__init__()
        stem, inner = _scaled(_STEM, width), _scaled(_CHANNELS, width)
        self.body = nn.Sequential(
            _conv(channels, stem, 3, stride=2),
            _separable(stem, inner // 2, stride=2),
            _separable(inner // 2, inner),
        )
        self.slots = nn.Sequential(*(_slot(variant, inner, bound) for _ in range(2)))
        self.heat = nn.Conv2d(inner, classes, 1)
        self.size = nn.Conv2d(inner, 2, 1)
        self.offset = nn.Conv2d(inner, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three maps.

        Logits of the heat map [batch, classes, h/4, w/4]; log size in units of 8 pixels, and offset of the center within its
        cell in cells, both [batch, 2, h/4, w/4] as (x, y).
        """
        features = self.slots(self.body(x))
        return self.heat(features), self.size(features), self.offset(features)


def build(variant: str = "depthwise", *, width: float = 1.0, bound: float = BOUND, seed: int = 0) -> CentreNet:
    """Return the detector for scenes, untrained, in evaluation mode.

    Args:
        variant: one of `VARIANTS`; one ending in `_w4a8` has the modules of the form before it, its offsets rounded; its bits
            come from training.
        width: factor on all channels; the result is rounded to at least 8 and a multiple of 8.
        bound: N, the largest displacement of a sampling point from its pixel in rows or columns of cells, as the engine's
            line buffer of 2N + 1 rows holds it: offsets lie within N - 1 (a tap is 1 away by itself), d of a square within
            N; ignored by the others.
        seed: of the initial weights; every part draws from its own stream, named by its path.

    Raises:
        InputError: for an unknown variant, or a width or bound out of range.

    """
    known = _check(variant, width, bound)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        made = CentreNet(known, width=width, bound=bound, classes=len(CLASS_NAMES))
        for path, part in made.named_modules():
            if isinstance(part, nn.Conv2d | DeformConv2d) and not path.endswith(OFFSET_LAYER):
                _draw(part.weight, path, seed)
                if part.bias is not None:
                    part.bias.zero_()
        made.heat.weight.mul_(0.1)
        made.heat.bias.fill_(-2.19)  # type: ignore[union-attr]  # a probability of 0.1 everywhere, as CenterNet starts
    return made.eval()


def centre_net(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    variant: Variant = "depthwise",
    width: float = 1.0,
    bound: float = BOUND,
) -> CentreNet:
    """Return the detector as the zoo builds networks; weights as torch draws them. Errors are those of `build`."""
    _check(variant, width, bound)
    return CentreNet(variant, width=width, bound=bound, classes=classes, channels=input_shape[0])


def detector(
    variant: str = "depthwise", width: float = 1.0, bound: float = BOUND, seed: int = 0
) -> tuple[CentreNet, tuple[Tensor, ...]]:
    """Return `build(...)` and example inputs, as `file.py:callable` names networks."""
    return build(variant, width=width, bound=bound, seed=seed), example_inputs()


def example_inputs(batch: int = 1, seed: int = 0) -> tuple[Tensor, ...]:
    """Return normal values in the shape of scenes, [batch, 1, 64, 64]."""
    return (torch.randn(batch, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)),)


OFFSET_LAYER = "offset_conv"
"""Name of the layer inside a deformable convolution that computes the offsets."""


def _check(variant: str, width: float, bound: float) -> Variant:
    if variant not in VARIANTS:
        raise InputError(unknown_choice("variant of centre-net", variant, VARIANTS))
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise InputError(f"centre-net: width must be between {WIDTHS[0]} and {WIDTHS[1]}, got {width!r}")
    if not 2 <= bound <= SIDE / STRIDE:
        raise InputError(f"centre-net: bound must be between 2 and {SIDE // STRIDE} cells, got {bound!r}")
    return variant


def _draw(weight: Tensor, path: str, seed: int) -> None:
    """Fill a weight from He's normal distribution (He et al. 2015), from a stream of this path and seed."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {path}".encode()))
    weight.copy_(torch.randn(weight.shape, generator=generator) * (2 / weight[0].numel()) ** 0.5)


def _scaled(channels: int, width: float) -> int:
    return max(8, round(channels * width / 8) * 8)


def _conv(channels: int, out: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


def _pointwise_after(first: nn.Module, channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(first, nn.BatchNorm2d(channels), *_conv(channels, out, 1))


def _separable(channels: int, out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    depthwise = nn.Conv2d(channels, channels, kernel, stride=stride, padding=kernel // 2, groups=channels, bias=False)
    return _pointwise_after(depthwise, channels, out)


def _slot(variant: Variant, channels: int, bound: float) -> nn.Sequential:
    base = variant.removesuffix(FINE_TUNED)
    if base == "conv3":
        return _conv(channels, channels, 3)
    if base in ("depthwise", "conv5"):
        return _separable(channels, channels, kernel=5 if base == "conv5" else 3)
    form: Literal["free", "bound", "square"] = (
        "free" if base == "deform_free" else "bound" if base == "deform_bound" else "square"
    )
    deform = DeformConv2d(
        channels,
        channels,
        groups=channels,
        bias=False,
        form=form,
        bound={"free": None, "bound": bound - 1, "square": bound}[form],
        rounded=base == "square_round" or variant.endswith(FINE_TUNED),
        offset_kernel=1,
    )
    return _pointwise_after(deform, channels, channels)
