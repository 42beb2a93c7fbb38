"""Networks built on depthwise convolutions: MobileNet V1 and V2, ShuffleNet V2, and the demo's small one.

Sources and counts: `catalog`. Parameter names of MobileNet V2 and ShuffleNet V2 are torchvision's, so its weight files
fit. No forward code holds a channel count, so that pruned copies run unchanged.
"""

import torch
from torch import nn


def _conv_bn(
    channels: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Return convolution, batch norm and activation, named 0, 1 and 2; padded to keep the size at stride 1."""
    conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), activation())


def _square_conv(channels: int, stride: int, bound: int) -> nn.Module:
    """Return a depthwise 3x3 deformable convolution with one whole offset per pixel (CoDeNet's square, bounded, rounded)."""
    from picojoule.sim.numerics.deform_module import DeformConv2d

    return DeformConv2d(
        channels,
        channels,
        3,
        stride=stride,
        padding=1,
        groups=channels,
        bias=False,
        form="square",
        bound=bound,
        rounded=True,
    )


class SeparableCnn(nn.Module):
    """A 3x3 stem, then depthwise 3x3 and pointwise 1x1 pairs, global pooling, one linear layer (MobileNet V1's form).

    `blocks` holds (output channels, stride of the depthwise convolution), or None for max pooling by 2. With `deform_bound`,
    depthwise convolutions are deformable in the form hardware likes: one whole offset per pixel, from 0 to that bound.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        classes: int,
        *,
        stem: int,
        stem_stride: int,
        blocks: tuple[tuple[int, int] | None, ...],
        deform_bound: int | None = None,
    ) -> None:
        super().__init__()
        features: list[nn.Module] = [_conv_bn(input_shape[0], stem, 3, stride=stem_stride)]
        channels = stem
        for block in blocks:
            if block is None:
                features.append(nn.MaxPool2d(2))
                continue
            width, stride = block
            depthwise = _conv_bn(channels, channels, 3, stride=stride, groups=channels)
            if deform_bound is not None:
                depthwise[0] = _square_conv(channels, stride, deform_bound)
            features.append(nn.Sequential(depthwise, _conv_bn(channels, width, 1)))
            channels = width
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


def mobilenet_v1(input_shape: tuple[int, ...], classes: int) -> SeparableCnn:
    """Return MobileNet V1 of width 1.0 (table 1 of its paper; the last depthwise stride is 1, as its sizes imply)."""
    blocks = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    return SeparableCnn(input_shape, classes, stem=32, stem_stride=2, blocks=blocks)


def dscnn_fashion(input_shape: tuple[int, ...], classes: int) -> SeparableCnn:
    """Return the demo's network: small enough to train in seconds, large enough that compression shows."""
    blocks = (None, (48, 1), None, (96, 1), (128, 1))
    return SeparableCnn(input_shape, classes, stem=16, stem_stride=1, blocks=blocks)


def dscnn_fashion_deform(input_shape: tuple[int, ...], classes: int) -> SeparableCnn:
    """Return the demo's network with deformable depthwise convolutions, as an FPGA unit runs them."""
    blocks = (None, (48, 1), None, (96, 1), (128, 1))
    return SeparableCnn(input_shape, classes, stem=16, stem_stride=1, blocks=blocks, deform_bound=3)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; a shortcut where shapes agree (MobileNet V2)."""

    def __init__(self, channels: int, width: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(_conv_bn(channels, hidden, 1, activation=nn.ReLU6))
        layers.append(_conv_bn(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6))
        layers += [nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width)]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, width, h / stride, w / stride]."""
        y = self.conv(x)
        return x + y if self.use_res_connect else y  # type: ignore[no-any-return]


class MobileNetV2(nn.Module):
    """Inverted residuals between a strided 3x3 stem and a 1x1 head; as it stands, MobileNet V2 of width 1.0 (table 2).

    `plan` holds (expansion, output channels, repeats, stride of the first); `stem` and `head` are channels.
    """

    plan: tuple[tuple[int, int, int, int], ...] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    stem, head = 32, 1280

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        features: list[nn.Module] = [_conv_bn(input_shape[0], self.stem, 3, stride=2, activation=nn.ReLU6)]
        channels = self.stem
        for expand, width, repeats, first_stride in self.plan:
            for index in range(repeats):
                features.append(InvertedResidual(channels, width, first_stride if index == 0 else 1, expand))
                channels = width
        features.append(_conv_bn(channels, self.head, 1, activation=nn.ReLU6))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.head, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


def mobilenet_v2(input_shape: tuple[int, ...], classes: int) -> MobileNetV2:
    """Return MobileNet V2 of width 1.0."""
    return MobileNetV2(input_shape, classes)


class MobileNetV2Fashion(MobileNetV2):
    """MobileNet V2's form for 28x28 grey images, small enough to train in minutes on one core."""

    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 40, 2, 1), (6, 64, 1, 1))
    stem, head = 16, 256


def mobilenetv2_fashion(input_shape: tuple[int, ...], classes: int) -> MobileNetV2Fashion:
    """Return the small MobileNet V2 of the Hamming study: six inverted residuals, three with a shortcut."""
    return MobileNetV2Fashion(input_shape, classes)


def _depthwise_bn(channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels)]


class ShuffleUnit(nn.Module):
    """One unit of ShuffleNet V2 (figure 3c of its paper; 3d when it halves the size), then a shuffle of two groups."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        branch = width // 2
        self.halves_size = stride == 2
        entering = channels if self.halves_size else branch
        side = [*_depthwise_bn(entering, stride), *_conv_bn(entering, branch, 1)] if self.halves_size else []
        self.branch1 = nn.Sequential(*side)
        self.branch2 = nn.Sequential(
            *_conv_bn(entering, branch, 1), *_depthwise_bn(branch, stride), *_conv_bn(branch, branch, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, width, h / stride, w / stride]."""
        if self.halves_size:
            y = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        else:
            kept, changed = x.chunk(2, dim=1)
            y = torch.cat((kept, self.branch2(changed)), dim=1)
        groups: torch.Tensor = y.unflatten(1, (2, -1))  # type: ignore[no-untyped-call]
        return groups.transpose(1, 2).flatten(1, 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 of width 1x (table 5 of its paper)."""

    plan = ((4, 116), (8, 232), (4, 464))  # units, output channels

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.conv1 = _conv_bn(input_shape[0], 24, 3, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 24
        stages = []
        for units, width in self.plan:
            repeated = (ShuffleUnit(width, width, 1) for _ in range(units - 1))
            stages.append(nn.Sequential(ShuffleUnit(channels, width, 2), *repeated))
            channels = width
        self.stage2, self.stage3, self.stage4 = stages
        self.conv5 = _conv_bn(channels, 1024, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def shufflenet_v2(input_shape: tuple[int, ...], classes: int) -> ShuffleNetV2:
    """Return ShuffleNet V2 of width 1x."""
    return ShuffleNetV2(input_shape, classes)
