"""Plain chains: LeNet-5, a perceptron with one hidden layer, VGG-11 and NeuroSim's VGG-8 for CIFAR-10 (sources: `catalog`)."""

import torch
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 with ReLU and max pooling; [batch, c, h, w] -> [batch, classes]."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        pixels = ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        self.fc1 = nn.Linear(16 * pixels, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(x.flatten(1)))
        x = self.relu4(self.fc2(x))
        return self.fc3(x)  # type: ignore[no-any-return]


class Perceptron(nn.Module):
    """One hidden layer with ReLU over all pixels; [batch, c, h, w] -> [batch, classes]."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, hidden: int = 100) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.fc1 = nn.Linear(channels * height * width, hidden)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.fc2(self.relu(self.fc1(x.flatten(1))))  # type: ignore[no-any-return]


class Vgg(nn.Module):
    """A chain of 3x3 convolutions with batch norm, pooled by 2 where `plan` has None; one linear layer at the end."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, plan: tuple[int | None, ...]) -> None:
        super().__init__()
        channels = input_shape[0]
        features: list[nn.Module] = []
        for width in plan:
            if width is None:
                features.append(nn.MaxPool2d(2))
            else:
                features += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))  # type: ignore[no-any-return]


def vgg11_cifar(input_shape: tuple[int, ...], classes: int) -> Vgg:
    """Return configuration A of the paper's table 1 with the classifier of the CIFAR-10 variants."""
    return Vgg(input_shape, classes, (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None))


class Vgg8(nn.Module):
    """Six 3x3 convolutions without biases or norms, pooled by 2 after each pair, and two linear layers."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        features: list[nn.Module] = []
        for wide in (128, 256, 512):
            for _ in range(2):
                features += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.ReLU()]
                channels = wide
            features.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*features)
        pixels = (height // 8) * (width // 8)
        self.classifier = nn.Sequential(
            nn.Linear(channels * pixels, 1024, bias=False), nn.ReLU(), nn.Linear(1024, classes, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]
