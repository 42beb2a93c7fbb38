"""Attention as users write it: torch's own modules, einsum, shifted windows."""

import torch
from torch import nn


class Translator(nn.Module):
    """torch's encoder-decoder, with a causal mask on the target: a quarter of Vaswani et al. 2017's base size."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        self.transformer = nn.Transformer(128, 4, 2, 2, 512, batch_first=True)
        self.head = nn.Linear(128, 1000)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, target tokens, 1000]."""
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        y = self.transformer(self.embedding(source), self.embedding(target), tgt_mask=mask, tgt_is_causal=True)
        return self.head(y)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """torch's encoder stack, told which tokens are padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 64, padding_idx=0)
        layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, 5]."""
        y = self.encoder(self.embedding(tokens), src_key_padding_mask=tokens == 0)
        return self.head(y.mean(dim=1))  # type: ignore[no-any-return]


class EinsumAttention(nn.Module):
    """Multi-head attention spelt out in einsum, with its projections as plain parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(3, 4, 64, 16) / 8)  # part, head, feature, size
        self.output = nn.Parameter(torch.randn(4, 16, 64) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, 64]."""
        query, key, value = torch.einsum("btf,phfs->pbhts", x, self.qkv)
        shares = torch.einsum("bhqs,bhks->bhqk", query * 0.25, key).softmax(-1)
        return torch.einsum("bhqk,bhks,hsf->bqf", shares, value, self.output)


class ShiftedWindows(nn.Module):
    """One block of attention within shifted windows, with a bias per relative position (Liu et al. 2021, Swin)."""

    index: torch.Tensor

    def __init__(self, channels: int = 48, heads: int = 3, window: int = 4) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) / 8)
        place = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = (place[:, :, None] - place[:, None, :]) + window - 1
        self.register_buffer("index", apart[0] * (2 * window - 1) + apart[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, height, width, channels]."""
        b, h, w, c = x.shape
        n, size = self.window, self.window**2
        y = torch.roll(self.norm(x), shifts=(-(n // 2), -(n // 2)), dims=(1, 2))
        y = y.view(b, h // n, n, w // n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, size, c)
        q, k, v = self.qkv(y).reshape(-1, size, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5
        scores = scores + self.bias[self.index.view(-1)].view(size, size, -1).permute(2, 0, 1)
        y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, size, c))
        y = y.view(b, h // n, w // n, n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return x + torch.roll(y, shifts=(n // 2, n // 2), dims=(1, 2))


def translator() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and one sentence of 20 tokens with its translation of 16."""
    torch.manual_seed(0)
    return Translator().eval(), (torch.randint(1000, (1, 20)), torch.randint(1000, (1, 16)))


def encoder() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and 32 tokens, the last five of them padding."""
    torch.manual_seed(0)
    tokens = torch.randint(1, 1000, (1, 32))
    tokens[:, -5:] = 0
    return Encoder().eval(), (tokens,)


def einsum_attention() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and 24 tokens."""
    torch.manual_seed(0)
    return EinsumAttention().eval(), (torch.randn(1, 24, 64),)


def shifted_windows() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Return the block and a map of 16 x 16."""
    torch.manual_seed(0)
    return ShiftedWindows().eval(), (torch.randn(1, 16, 16, 48),)
