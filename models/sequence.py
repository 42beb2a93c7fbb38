"""Networks over other things than images: PointNet over points, an LSTM tagger over words.

Sources and counts: `catalog`.
"""

import torch
from torch import nn


def _pointwise(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(channels, width, 1), nn.BatchNorm1d(width), nn.ReLU())


def _dense(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU())


class TransformNet(nn.Module):
    """T-Net: looks at all points and returns one square matrix a cloud, [batch, size, size]."""

    identity: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("identity", torch.eye(size), persistent=False)
        self.points = nn.Sequential(_pointwise(size, 64), _pointwise(64, 128), _pointwise(128, 1024))
        self.dense = nn.Sequential(_dense(1024, 512), _dense(512, 256))
        self.matrix = nn.Linear(256, size * size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the matrix, the identity plus what was learned."""
        found = self.matrix(self.dense(self.points(x).amax(dim=2)))
        square: torch.Tensor = found.unflatten(1, (self.size, self.size))
        return square + self.identity


class PointNet(nn.Module):
    """PointNet's classifier: [batch, coordinates, points] -> [batch, classes]."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.input_transform = TransformNet(input_shape[0])
        self.first = nn.Sequential(_pointwise(input_shape[0], 64), _pointwise(64, 64))
        self.feature_transform = TransformNet(64)
        self.second = nn.Sequential(_pointwise(64, 64), _pointwise(64, 128), _pointwise(128, 1024))
        self.dense = nn.Sequential(_dense(1024, 512), _dense(512, 256), nn.Dropout(0.3))
        self.classifier = nn.Linear(256, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = self.first(torch.matmul(self.input_transform(x), x))
        x = self.second(torch.matmul(self.feature_transform(x), x))
        return self.classifier(self.dense(x.amax(dim=2)))  # type: ignore[no-any-return]


def pointnet(input_shape: tuple[int, ...], classes: int) -> PointNet:
    """Return the classification network with both transforms (the paper's figure 2)."""
    return PointNet(input_shape, classes)


TAGGER_VOCABULARY = 10_000  # words


class LstmTagger(nn.Module):
    """Word embeddings, two bidirectional LSTM layers, a label for each word: [batch, words] -> [batch, words, labels]."""

    def __init__(self, classes: int, *, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TAGGER_VOCABULARY, embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=layers, bidirectional=True, batch_first=True)
        self.labels = nn.Linear(2 * hidden, classes)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.labels(self.lstm(self.embedding(words))[0])  # type: ignore[no-any-return]


def lstm_tagger(input_shape: tuple[int, ...], classes: int) -> LstmTagger:
    """Return a tagger with embeddings of 100, 300 hidden units each way."""
    del input_shape
    return LstmTagger(classes, embedding=100, hidden=300, layers=2)
