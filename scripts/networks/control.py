"""Networks that decide at run time: a mixture of experts by masks, an early exit by an `if` on the data."""

import torch
from torch import nn


class Mixture(nn.Module):
    """Every expert runs, the two best count (how mixtures are often written for small models)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, 8]."""
        best, which = self.gate(x).topk(2, dim=-1)
        shares = torch.zeros(x.shape[0], 4).scatter(1, which, best.softmax(-1))
        answers = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (shares.unsqueeze(-1) * answers).sum(1)


class EarlyExit(nn.Module):
    """Stops after the first part when that is sure of itself: a branch on the data, which export cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.exit = nn.Linear(128, 10)
        self.rest = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        features = self.first(x)
        early = self.exit(features)
        if early.softmax(-1).max() > 0.9:
            return early  # type: ignore[no-any-return]
        return self.rest(features)  # type: ignore[no-any-return]


def mixture() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one sample."""
    torch.manual_seed(0)
    return Mixture().eval(), (torch.randn(1, 32),)


def early_exit() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one image; the example does not exit early."""
    torch.manual_seed(0)
    return EarlyExit().eval(), (torch.randn(1, 3, 16, 16),)
