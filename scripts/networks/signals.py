"""Networks over sound and video: dilated causal convolutions, 3-D convolutions."""

import torch
import torch.nn.functional as F
from torch import nn


class GatedLayer(nn.Module):
    """A causal convolution of two taps, its filter and gate halves multiplied; residual and skip outputs."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(channels, 2 * channels, 2, dilation=dilation)
        self.residual = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (next input, skip)."""
        signal, gate = self.conv(F.pad(x, (self.dilation, 0))).chunk(2, dim=1)
        y = torch.tanh(signal) * torch.sigmoid(gate)
        return x + self.residual(y), self.skip(y)


class WaveNet(nn.Module):
    """Dilations 1 to 128 twice, skips summed (van den Oord et al. 2016, section 2), small."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 32, 1)
        self.layers = nn.ModuleList(GatedLayer(32, 2 ** (i % 8)) for i in range(16))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(32, 32, 1), nn.ReLU(), nn.Conv1d(32, 256, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, 256, time] of a wave [batch, 1, time]."""
        x = self.first(x)
        skips = []
        for layer in self.layers:
            x, skip = layer(x)
            skips.append(skip)
        return self.last(torch.stack(skips).sum(dim=0))  # type: ignore[no-any-return]


class C3d(nn.Module):
    """3-D convolutions over 16 frames (Tran et al. 2015), an eighth of the published widths."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, pool in ((8, (1, 2, 2)), (16, (2, 2, 2)), (32, (2, 2, 2)), (64, (2, 2, 2))):
            layers += [nn.Conv3d(channels, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU(), nn.MaxPool3d(pool)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(64, 10)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, 10], of [batch, 3, frames, h, w]."""
        return self.classifier(F.adaptive_avg_pool3d(self.features(video), 1).flatten(1))  # type: ignore[no-any-return]


def wavenet() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and 512 samples of sound."""
    torch.manual_seed(0)
    return WaveNet().eval(), (torch.randn(1, 1, 512),)


def c3d() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and 16 frames of 56 x 56."""
    torch.manual_seed(0)
    return C3d().eval(), (torch.randn(1, 3, 16, 56, 56),)
