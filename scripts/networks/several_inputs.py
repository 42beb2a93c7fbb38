"""Networks with several inputs: image and text, wide and deep features, a graph with its adjacency."""

import torch
import torch.nn.functional as F
from torch import nn


class ImageText(nn.Module):
    """An image tower and a text tower, compared pair by pair (in the style of CLIP, Radford et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=4),
            nn.GELU(),
            nn.Conv2d(32, 64, 2, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.words = nn.Embedding(1000, 64)
        self.text = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.scale = nn.Parameter(torch.tensor(2.6))

    def forward(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Return the similarity of each pair, [batch]."""
        a = F.normalize(self.image(image), dim=-1)
        b = F.normalize(self.text(self.words(words))[:, -1], dim=-1)
        return (a * b).sum(-1) * self.scale.exp()


class WideAndDeep(nn.Module):
    """A linear part over sparse features and a perceptron over their embeddings (Cheng et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.EmbeddingBag(5000, 1, mode="sum")
        self.deep = nn.EmbeddingBag(5000, 32, mode="mean")
        self.perceptron = nn.Sequential(
            nn.Linear(32 + 13, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, sparse: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """Return a probability, [batch, 1], of feature numbers [batch, 26] and values [batch, 13]."""
        deep = self.perceptron(torch.cat((self.deep(sparse), dense), dim=1))
        return torch.sigmoid(self.wide(sparse) + deep)


class GraphConvolution(nn.Module):
    """Two graph convolutions over a dense, normalised adjacency (Kipf and Welling 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(32, 64)
        self.second = nn.Linear(64, 7)

    def forward(self, nodes: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        """Return log shares, [batch, nodes, 7]."""
        hidden = F.relu(adjacency @ self.first(nodes))
        return F.log_softmax(adjacency @ self.second(hidden), dim=-1)


def image_text() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one pair."""
    torch.manual_seed(0)
    return ImageText().eval(), (torch.randn(1, 3, 32, 32), torch.randint(1000, (1, 12)))


def wide_and_deep() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one customer."""
    torch.manual_seed(0)
    return WideAndDeep().eval(), (torch.randint(5000, (1, 26)), torch.randn(1, 13))


def graph_convolution() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and a graph of 40 nodes."""
    torch.manual_seed(0)
    edges = (torch.rand(1, 40, 40) < 0.1).float() + torch.eye(40)
    return GraphConvolution().eval(), (torch.randn(1, 40, 32), edges / edges.sum(-1, keepdim=True))
