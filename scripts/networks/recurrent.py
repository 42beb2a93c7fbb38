"""Recurrent networks as a user writes them: a GRU that spots keywords, a character model with plain tanh units."""

import torch
from torch import nn


class KeywordGru(nn.Module):
    """Two GRU layers over audio frames; the last state decides (in the style of Zhang et al. 2017, "Hello Edge")."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(40, 128, num_layers=2, batch_first=True)
        self.classifier = nn.Linear(128, 12)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, 12], of frames [batch, time, 40]."""
        _, state = self.gru(frames)
        return self.classifier(state[-1])  # type: ignore[no-any-return]


class CharacterRnn(nn.Module):
    """Embedding, one layer of tanh units, logits for each character."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(96, 64)
        self.rnn = nn.RNN(64, 256, batch_first=True)
        self.head = nn.Linear(256, 96)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        """Return [batch, time, 96]."""
        y, _ = self.rnn(self.embedding(characters))
        return self.head(y)  # type: ignore[no-any-return]


class CellByCell(nn.Module):
    """An LSTM cell called in a Python loop, the way older code does."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(16, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, 4] of [batch, time, 16]."""
        h = x.new_zeros(x.shape[0], 32)
        c = x.new_zeros(x.shape[0], 32)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.head(h)  # type: ignore[no-any-return]


def keyword_gru() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one second of audio."""
    torch.manual_seed(0)
    return KeywordGru().eval(), (torch.randn(1, 49, 40),)


def character_rnn() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and 64 characters."""
    torch.manual_seed(0)
    return CharacterRnn().eval(), (torch.randint(96, (1, 64)),)


def cell_by_cell() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and ten steps."""
    torch.manual_seed(0)
    return CellByCell().eval(), (torch.randn(1, 10, 16),)
