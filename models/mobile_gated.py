"""Mobile networks whose blocks gate their channels (squeeze and excitation): MobileNet V3 small and EfficientNet-B0.

Sources and counts: `catalog`. Parameter names are torchvision's, so its weight files fit. Stochastic depth acts in
training only and is left out.
"""

import torch
from torch import nn


def _conv_bn(
    channels: int,
    width: int,
    kernel: int,
    activation: type[nn.Module] | None,
    *,
    stride: int = 1,
    groups: int = 1,
    epsilon: float = 1e-5,
) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    layers = [conv, nn.BatchNorm2d(width, eps=epsilon)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the channels' means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int, activation: type[nn.Module], gate: type[nn.Module]) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation()
        self.scale_activation = gate()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape."""
        gates = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return gates * x  # type: ignore[no-any-return]


class GatedResidual(nn.Module):
    """Expand 1x1, depthwise, gate, project 1x1 without activation; a shortcut where shapes agree."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        width: int,
        *,
        kernel: int,
        stride: int,
        activation: type[nn.Module],
        gate: nn.Module | None,
        epsilon: float,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if hidden != channels:
            layers.append(_conv_bn(channels, hidden, 1, activation, epsilon=epsilon))
        layers.append(_conv_bn(hidden, hidden, kernel, activation, stride=stride, groups=hidden, epsilon=epsilon))
        layers += [gate] if gate is not None else []
        layers.append(_conv_bn(hidden, width, 1, None, epsilon=epsilon))
        self.block = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, width, h / stride, w / stride]."""
        y = self.block(x)
        return x + y if self.use_res_connect else y  # type: ignore[no-any-return]


class MobileGated(nn.Module):
    """A stem, blocks, a last 1x1 convolution, global pooling and a classifier."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


_V3_SMALL = (  # kernel, expanded channels, output channels, gate, hard swish, stride: table 2 of the paper
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def _multiple_of_8(size: float) -> int:
    """Return the nearest multiple of 8 that is not more than a tenth below (as the papers' own code rounds)."""
    rounded = max(8, int(size + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * size else rounded


def mobilenet_v3_small(input_shape: tuple[int, ...], classes: int) -> MobileGated:
    """Return MobileNet V3 small of width 1.0."""
    epsilon = 1e-3
    features: list[nn.Module] = [_conv_bn(input_shape[0], 16, 3, nn.Hardswish, stride=2, epsilon=epsilon)]
    channels = 16
    for kernel, hidden, width, gated, hard_swish, stride in _V3_SMALL:
        gate = SqueezeExcitation(hidden, _multiple_of_8(hidden / 4), nn.ReLU, nn.Hardsigmoid) if gated else None
        activation: type[nn.Module] = nn.Hardswish if hard_swish else nn.ReLU
        features.append(
            GatedResidual(
                channels, hidden, width, kernel=kernel, stride=stride, activation=activation, gate=gate, epsilon=epsilon
            )
        )
        channels = width
    features.append(_conv_bn(channels, 6 * channels, 1, nn.Hardswish, epsilon=epsilon))
    classifier = nn.Sequential(nn.Linear(6 * channels, 1024), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1024, classes))
    return MobileGated(nn.Sequential(*features), classifier)


_B0 = (  # expansion, kernel, stride of the first, output channels, repeats: table 1 of the paper
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def efficientnet_b0(input_shape: tuple[int, ...], classes: int) -> MobileGated:
    """Return EfficientNet-B0."""
    epsilon = 1e-5
    features: list[nn.Module] = [_conv_bn(input_shape[0], 32, 3, nn.SiLU, stride=2, epsilon=epsilon)]
    channels = 32
    for expand, kernel, first_stride, width, repeats in _B0:
        blocks = []
        for index in range(repeats):
            hidden = channels * expand
            gate = SqueezeExcitation(hidden, channels // 4, nn.SiLU, nn.Sigmoid)
            stride = first_stride if index == 0 else 1
            blocks.append(
                GatedResidual(
                    channels,
                    hidden,
                    width,
                    kernel=kernel,
                    stride=stride,
                    activation=nn.SiLU,
                    gate=gate,
                    epsilon=epsilon,
                )
            )
            channels = width
        features.append(nn.Sequential(*blocks))
    features.append(_conv_bn(channels, 1280, 1, nn.SiLU, epsilon=epsilon))
    return MobileGated(nn.Sequential(*features), nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes)))
