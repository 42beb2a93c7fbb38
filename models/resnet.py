"""Residual networks of He et al. 2016, "Deep Residual Learning for Image Recognition" (variants: `catalog`).

Parameter names are torchvision's, so its weight files fit `resnet18` and `resnet50`. Every activation is a module of
its own, so that a quantiser or hook can tell one place from another.
"""

import torch
from torch import nn


def _shortcut(channels: int, width: int, stride: int) -> nn.Sequential | None:
    """Return a 1x1 projection where shapes change (option B of the paper, section 3.3), else None."""
    if stride == 1 and channels == width:
        return None
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (the paper's figure 5, left)."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.downsample = _shortcut(channels, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, planes, h / stride, w / stride]."""
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + identity)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (figure 5, right), with the stride on the 3x3 (version 1.5)."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        width = planes * self.expansion
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(planes, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU()
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, 4 x planes, h / stride, w / stride]."""
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu3(y + identity)  # type: ignore[no-any-return]


def _stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, planes: int, count: int, stride: int
) -> nn.Module:
    width = planes * block.expansion
    first = block(channels, planes, stride)
    return nn.Sequential(first, *(block(width, planes, 1) for _ in range(count - 1)))


class ImageNetResNet(nn.Module):
    """A 7x7 stem, four stages, global pooling, one linear layer (the paper's table 1)."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        classes: int,
        block: type[BasicBlock] | type[Bottleneck],
        counts: tuple[int, int, int, int],
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, 64, 64, counts[0], 1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, counts[1], 2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, counts[2], 2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, counts[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """A 3x3 stem, three stages of 16, 32 and 64 channels, global pooling, one linear layer (section 4.2)."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, blocks_per_stage: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(BasicBlock, 16, 16, blocks_per_stage, 1)
        self.layer2 = _stage(BasicBlock, 16, 32, blocks_per_stage, 2)
        self.layer3 = _stage(BasicBlock, 32, 64, blocks_per_stage, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def resnet20(input_shape: tuple[int, ...], classes: int) -> CifarResNet:
    """Return the 6 x 3 + 2 layer network for CIFAR-10."""
    return CifarResNet(input_shape, classes, 3)


def resnet18(input_shape: tuple[int, ...], classes: int) -> ImageNetResNet:
    """Return the 18-layer network."""
    return ImageNetResNet(input_shape, classes, BasicBlock, (2, 2, 2, 2))


def resnet50(input_shape: tuple[int, ...], classes: int) -> ImageNetResNet:
    """Return the 50-layer network, version 1.5."""
    return ImageNetResNet(input_shape, classes, Bottleneck, (3, 4, 6, 3))
