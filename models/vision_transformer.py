"""The vision transformer of Dosovitskiy et al. 2021 in the tiny size of Touvron et al. 2021 (DeiT-Ti).

An image is cut into square patches, each a token; a learned token in front of them gathers the class. Parameter names
are those of the widely used `timm` package.
"""

import torch
import torch.nn.functional as F
from torch import nn

PATCH = 16  # pixels on a side


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value from one linear layer, split by reshaping."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.head_size = hidden // heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        parts: torch.Tensor = self.qkv(x).unflatten(-1, (3, -1, self.head_size))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, intermediate)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(intermediate, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and feed-forward, each behind its norm and added to its input."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden, eps=1e-6)
        self.attn = Attention(hidden, heads)
        self.norm2 = nn.LayerNorm(hidden, eps=1e-6)
        self.mlp = Mlp(hidden, 4 * hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class PatchEmbedding(nn.Module):
    """A convolution that reads each patch once; [batch, c, h, w] -> [batch, patches, hidden]."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, hidden, PATCH, stride=PATCH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one token a patch."""
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions, blocks, a norm and a linear layer on the class token."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, *, hidden: int, heads: int, layers: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        tokens = (height // PATCH) * (width // PATCH) + 1
        self.patch_embed = PatchEmbedding(channels, hidden)
        self.cls_token = nn.Parameter(torch.empty(1, 1, hidden).normal_(std=0.02))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, hidden).normal_(std=0.02))
        self.blocks = nn.Sequential(*(Block(hidden, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, classes]."""
        patches = self.patch_embed(x)
        x = torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches), dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]


def vit_tiny(input_shape: tuple[int, ...], classes: int) -> VisionTransformer:
    """Return the tiny size (DeiT's table 1): 12 layers of 192, 3 heads, patches of 16 x 16."""
    return VisionTransformer(input_shape, classes, hidden=192, heads=3, layers=12)
