"""CoDeNet: a ShuffleNet V2 detector whose decoder is made of square deformable convolutions, in its five configurations.

Source: Huang, Wang, Dong et al. 2021 (FPGA'21, arXiv 2006.08357), table 3 and its official PyTorch network (branches of
ShuffleNet V2, decoder, heads); the widths and the order of the calls are those that ran on the accelerator. Two forms of
one network are public, and they differ:

- **On the board** (`BOARD`, `codenet-a` to `codenet-e`): widths 32, 128, 256, 512, 1024 (32, 256, 512, 1024, 2048 when
  doubled), decoder 256, 128, 128, three heads of one 1x1 layer (80, 2 and 2 channels) and one 3x3 depthwise layer each.
  This is what measured times belong to: 52 calls of the accelerator for a, b and c, 56 for d and e.
- **As trained** (`TRAINED`, built by `trained`): widths 24, 116, 232, 464, 1024 (24, 244, 488, 976, 2153 when doubled),
  decoder 256, 128, 64, heads 64 -> 64 (1x1), 3x3 depthwise, 1x1 to the 20 classes of VOC, 2 and 2 channels. The published
  sizes and MACs are of this form, in MiB and as the counter `thop` gives them: 1,588,031 and 6,082,427 parameters are the
  6.06 and 23.2 "MB" (0.76 and 2.90 at 4 bits); 2 operations per element of each batch norm added, and the deformable
  layers, which thop does not know, left out, its MACs are 0.285, 0.294, 1.141, 3.546 and 3.580 G for a to e (published:
  0.29, 0.29, 1.14, 3.54, 3.58).

The board's form has 1,790,195 and 6,372,339 parameters. Two operations per MAC of all layers but the first are 0.577, 2.309
and 7.309 G for a, c and d, where the board recorded 0.573, 2.292 and 6.641. At a and c exactly the 1x1 layers of the two
2-channel heads are missing (4.2 and 16.8 M; eight ninths of the deformable layers are as many); d lacks another 0.65 G for
which we know no rule: the widths as trained do not give it either.

Each configuration's first layer, splits, shuffles and upsamplings run on the processor of the board, all other layers on
the accelerator. The offset layers start from zero weights and a bias of one, so an untrained network samples the
ordinary 3x3 grid (d = 1). Widths need not be multiples of 16; the accelerator pads them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from picojoule.models.mobile import ShuffleUnit
from picojoule.sim.numerics.deform_module import DeformConv2d

REPEATS = (3, 7, 3)
BOUND = 7
"""Largest d of the square deformable layers: the line buffer holds 2 x 7 + 1 rows (section 4.2 of the paper)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Channels of one form: `single` and `double` list the first layer, three stages and the last 1x1 layer.

    `head_width` is the width of a head's hidden layers, or None where the head is one 1x1 and one depthwise layer.
    """

    single: tuple[int, ...]
    double: tuple[int, ...]
    decoder: tuple[int, ...]
    head_width: int | None


BOARD = Form(
    single=(32, 128, 256, 512, 1024),
    double=(32, 256, 512, 1024, 2048),
    decoder=(256, 128, 128),
    head_width=None,
)
TRAINED = Form(
    single=(24, 116, 232, 464, 1024),
    double=(24, 244, 488, 976, 2153),
    decoder=(256, 128, 64),
    head_width=64,
)


def _normed(conv: nn.Module, width: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(width), nn.ReLU()]


def _depthwise(width: int, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=bias)


def _first(channels: int, width: int, *, max_pool: bool) -> nn.Sequential:
    """Return the first layer: a quarter of the size by one stride, or by a stride of two and max pooling."""
    conv = nn.Conv2d(channels, width, 3, stride=2 if max_pool else 4, padding=1, bias=False)
    pool = [nn.MaxPool2d(3, stride=2, padding=1)] if max_pool else []
    return nn.Sequential(*_normed(conv, width), *pool)


def _decoder_block(channels: int, width: int) -> nn.Sequential:
    """Return square deformable 3x3 depthwise, 1x1 where the width changes, norm, ReLU, and twice the size (nearest)."""
    sampled = DeformConv2d(
        channels, channels, groups=channels, bias=False, form="square", bound=BOUND, rounded=True, offset_kernel=1
    )
    pointwise = [nn.Conv2d(channels, width, 1, bias=False)] if channels != width else []
    upsample = nn.Upsample(scale_factor=2, mode="nearest")
    return nn.Sequential(sampled, *pointwise, nn.BatchNorm2d(width), nn.ReLU(), upsample)


def _head(channels: int, outputs: int, hidden: int | None) -> nn.Sequential:
    """Return a head: 1x1 and depthwise 3x3; with hidden layers, a last 1x1 to the outputs."""
    width = outputs if hidden is None else hidden
    first = _normed(nn.Conv2d(channels, width, 1, bias=False), width)
    if hidden is None:
        return nn.Sequential(*first, _depthwise(width, bias=True))
    return nn.Sequential(*first, *_normed(_depthwise(width), width), nn.Conv2d(width, outputs, 1))


class CoDeNet(nn.Module):
    """Backbone at 1/32 of the image, decoder back to 1/4, and three maps of a centre-point detector."""

    def __init__(
        self, input_shape: tuple[int, ...], classes: int, *, form: Form = BOARD, double: bool, max_pool: bool
    ) -> None:
        super().__init__()
        widths = form.double if double else form.single
        self.first = _first(input_shape[0], widths[0], max_pool=max_pool)
        units = []
        for channels, width, repeats in zip(widths, widths[1:4], REPEATS, strict=False):
            units.append(ShuffleUnit(channels, width, 2))
            units += [ShuffleUnit(width, width, 1) for _ in range(repeats)]
        self.stages = nn.Sequential(*units)
        self.last = nn.Sequential(*_normed(nn.Conv2d(widths[3], widths[4], 1, bias=False), widths[4]))
        blocks = zip((widths[4], *form.decoder), form.decoder, strict=False)
        self.decoder = nn.Sequential(*(_decoder_block(channels, width) for channels, width in blocks))
        self.heatmap, self.size, self.offset = (
            _head(form.decoder[-1], outputs, form.head_width) for outputs in (classes, 2, 2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return class logits [batch, classes, h / 4, w / 4], box sizes and sub-pixel offsets [batch, 2, h / 4, w / 4]."""
        x = self.decoder(self.last(self.stages(self.first(x))))
        return self.heatmap(x), self.size(x), self.offset(x)


def codenet(*, double: bool, max_pool: bool) -> Callable[[tuple[int, ...], int], CoDeNet]:
    """Return the builder of one configuration on the board, as `zoo` calls it: (input shape, classes) -> module."""

    def build(input_shape: tuple[int, ...], classes: int) -> CoDeNet:
        return CoDeNet(input_shape, classes, double=double, max_pool=max_pool)

    return build


def trained(
    input_shape: tuple[int, ...] = (3, 512, 512), classes: int = 20, *, double: bool = False, max_pool: bool = False
) -> CoDeNet:
    """Return the network with the widths it was trained in (untrained here), the form of the published sizes."""
    return CoDeNet(input_shape, classes, form=TRAINED, double=double, max_pool=max_pool)
