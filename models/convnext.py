"""ConvNeXt of Liu et al. 2022: a convolutional network with a transformer's habits.

Depthwise 7x7 convolutions, layer norms over channels, GELU, a learned scale on each residual branch. Parameter names are
torchvision's, so its weight files fit.
"""

import torch
import torch.nn.functional as F
from torch import nn


class LayerNorm2d(nn.LayerNorm):
    """A layer norm over the channels of [batch, c, h, w]."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        x = input.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Permute(nn.Module):
    """Reorders axes as a layer of its own."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the view."""
        return x.permute(self.order)


class Block(nn.Module):
    """Depthwise 7x7, norm, 1x1 to four times the width and back (as linear layers, channels last), scaled and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Permute(0, 3, 1, 2),
        )
        # Published: 1e-6, which training raises. Untrained blocks would then change nothing that anybody could see.
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        return x + self.layer_scale * self.block(x)  # type: ignore[no-any-return]


class ConvNeXt(nn.Module):
    """A 4x4 stem of stride 4, four stages with halving between them, global pooling, a norm, one linear layer."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, *, plan: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        width = plan[0][0]
        features: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(input_shape[0], width, 4, stride=4), LayerNorm2d(width, eps=1e-6))
        ]
        for i, (width, blocks) in enumerate(plan):
            if i:
                before = plan[i - 1][0]
                features.append(nn.Sequential(LayerNorm2d(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2)))
            features.append(nn.Sequential(*(Block(width) for _ in range(blocks))))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(LayerNorm2d(width, eps=1e-6), nn.Flatten(1), nn.Linear(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        return self.classifier(self.avgpool(self.features(x)))  # type: ignore[no-any-return]


def convnext_tiny(input_shape: tuple[int, ...], classes: int) -> ConvNeXt:
    """Return the tiny size (the paper's section 3): widths 96, 192, 384, 768 with 3, 3, 9, 3 blocks."""
    return ConvNeXt(input_shape, classes, plan=((96, 3), (192, 3), (384, 9), (768, 3)))
