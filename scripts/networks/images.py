"""Networks over images that are no plain classifiers: a mixer, a generator, super-resolution, dilated segmentation."""

import torch
import torch.nn.functional as F
from torch import nn


class MixerBlock(nn.Module):
    """A perceptron across tokens, then one across channels (Tolstikhin et al. 2021)."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(channels)
        self.across_tokens = nn.Sequential(nn.Linear(tokens, 64), nn.GELU(), nn.Linear(64, tokens))
        self.channel_norm = nn.LayerNorm(channels)
        self.across_channels = nn.Sequential(nn.Linear(channels, 512), nn.GELU(), nn.Linear(512, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, channels]."""
        x = x + self.across_tokens(self.token_norm(x).mT).mT
        return x + self.across_channels(self.channel_norm(x))  # type: ignore[no-any-return]


class Mixer(nn.Module):
    """Patches of 8, four blocks, a mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 128, 8, stride=8)
        self.blocks = nn.Sequential(*(MixerBlock(64, 128) for _ in range(4)))
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.head(self.blocks(self.stem(x).flatten(2).mT).mean(1))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """DCGAN's generator (Radford et al. 2016, figure 1): transposed convolutions from noise to 64 x 64."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 100
        for width, stride, padding in ((512, 1, 0), (256, 2, 1), (128, 2, 1), (64, 2, 1)):
            conv = nn.ConvTranspose2d(channels, width, 4, stride=stride, padding=padding, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, stride=2, padding=1, bias=False), nn.Tanh())

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Return [batch, 3, 64, 64]."""
        return self.main(noise)  # type: ignore[no-any-return]


class SuperResolution(nn.Module):
    """ESPCN (Shi et al. 2016): convolutions at low resolution, then channels become pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh())
        self.last = nn.Conv2d(32, 9, 3, padding=1)
        self.shuffle = nn.PixelShuffle(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an image three times as large."""
        return self.shuffle(self.last(self.body(x)))  # type: ignore[no-any-return]


class Pyramid(nn.Module):
    """Dilated branches and a global one, joined and enlarged bilinearly (Chen et al. 2017, DeepLab V3's head)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, stride=4, padding=1), nn.GroupNorm(8, 32), nn.PReLU(32))
        self.branches = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=d, dilation=d) for d in (1, 6, 12))
        self.overall = nn.Conv2d(32, 32, 1)
        self.last = nn.Conv2d(128, 21, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits per pixel, [batch, 21, h, w]."""
        x = self.stem(image)
        seen = [branch(x) for branch in self.branches]
        mean = self.overall(x.mean(dim=(2, 3), keepdim=True))
        seen.append(mean.expand(-1, -1, x.shape[2], x.shape[3]))
        y = self.last(F.relu(torch.cat(seen, dim=1)))
        return F.interpolate(y, size=image.shape[2:], mode="bilinear", align_corners=False)


def mixer() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one image."""
    torch.manual_seed(0)
    return Mixer().eval(), (torch.randn(1, 3, 64, 64),)


def generator() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one noise vector."""
    torch.manual_seed(0)
    return Generator().eval(), (torch.randn(1, 100, 1, 1),)


def super_resolution() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and a small grey image."""
    torch.manual_seed(0)
    return SuperResolution().eval(), (torch.rand(1, 1, 48, 48),)


def pyramid() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one image."""
    torch.manual_seed(0)
    return Pyramid().eval(), (torch.randn(1, 3, 96, 96),)
