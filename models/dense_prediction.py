"""Networks whose answer is a map: U-Net (Ronneberger et al. 2015) and YOLOv3-tiny (Redmon and Farhadi 2018).

No post-processing: U-Net returns logits per pixel, YOLOv3-tiny the raw tensors of its two heads.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn


def _double_conv(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
    )


class UNet(nn.Module):
    """Four halvings and four doublings by transposed convolution, each level handing its features across.

    The paper's figure 1 with its convolutions padded, as is usual now, so that the answer has the image's size.
    """

    def __init__(self, input_shape: tuple[int, ...], classes: int, *, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = tuple(itertools.pairwise(widths))
        self.first = _double_conv(input_shape[0], widths[0])
        self.down = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), _double_conv(a, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(_double_conv(b, a) for a, b in reversed(pairs))
        self.last = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes, h, w]."""
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat((levels.pop(), up(x)), dim=1))
        return self.last(x)  # type: ignore[no-any-return]


def unet(input_shape: tuple[int, ...], classes: int) -> UNet:
    """Return the paper's widths: 64 to 1024."""
    return UNet(input_shape, classes, widths=(64, 128, 256, 512, 1024))


def _darknet_conv(channels: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.1)
    )


class YoloV3Tiny(nn.Module):
    """A chain of convolutions and poolings, and two heads: one coarse, one at twice the resolution (yolov3-tiny.cfg)."""

    boxes_per_cell = 3

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        outputs = self.boxes_per_cell * (5 + classes)  # four coordinates and one objectness a box
        early: list[nn.Module] = []
        channels = input_shape[0]
        for width in (16, 32, 64, 128):
            early += [_darknet_conv(channels, width, 3), nn.MaxPool2d(2)]
            channels = width
        self.early = nn.Sequential(*early, _darknet_conv(128, 256, 3))
        self.pool = nn.MaxPool2d(2)
        self.conv512 = _darknet_conv(256, 512, 3)
        self.conv1024 = _darknet_conv(512, 1024, 3)
        self.neck = _darknet_conv(1024, 256, 1)
        self.coarse = nn.Sequential(_darknet_conv(256, 512, 3), nn.Conv2d(512, outputs, 1))
        self.lateral = _darknet_conv(256, 128, 1)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.fine = nn.Sequential(_darknet_conv(128 + 256, 256, 3), nn.Conv2d(256, outputs, 1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return [batch, 3 x (5 + classes), h / 32, w / 32], and the same at h / 16, w / 16."""
        early = self.early(x)
        x = self.conv512(self.pool(early))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2, stride=1)  # keeps the size
        x = self.neck(self.conv1024(x))
        up = self.upsample(self.lateral(x))
        return self.coarse(x), self.fine(torch.cat((up, early), dim=1))


def yolov3_tiny(input_shape: tuple[int, ...], classes: int) -> YoloV3Tiny:
    """Return the network of yolov3-tiny.cfg."""
    return YoloV3Tiny(input_shape, classes)
