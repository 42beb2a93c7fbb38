"""Language models that predict the next token: GPT-2 (Radford et al. 2019) and LLaMA (Touvron et al. 2023).

Shapes only, no tokenizer and no trained weights. Input is [batch, tokens] of whole numbers below the vocabulary, output
[batch, tokens, vocabulary]: the cost of reading a prompt, every token attending to those before it. The masked half of
the scores is computed and counted, as dense hardware does. Generating with a cache of keys and values is left out.
"""

import torch
import torch.nn.functional as F
from torch import nn

GPT2_VOCABULARY = 50_257  # byte-pair entries
LLAMA_VOCABULARY = 32_000  # sentence-piece entries


def _heads(x: torch.Tensor, head_size: int) -> torch.Tensor:
    """Return [batch, heads, tokens, head_size]; the number of heads follows from the features."""
    split: torch.Tensor = x.unflatten(-1, (-1, head_size))  # type: ignore[no-untyped-call]
    return split.transpose(1, 2)


class CausalAttention(nn.Module):
    """Self-attention whose query, key and value come from one linear layer (GPT-2)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.head_size = hidden // heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        query, key, value = (_heads(part, self.head_size) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Gpt2Layer(nn.Module):
    """Attention and feed-forward, each behind its norm (pre-norm) and added to its input."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = CausalAttention(hidden, heads)
        self.feed_forward_norm = nn.LayerNorm(hidden)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(approximate="tanh"), nn.Linear(4 * hidden, hidden)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))  # type: ignore[no-any-return]


class Gpt2(nn.Module):
    """Token and position embeddings, layers, a last norm, and logits through the transposed token embedding."""

    def __init__(self, *, vocabulary: int, context: int, hidden: int, heads: int, layers: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(context, hidden)
        self.layers = nn.Sequential(*(Gpt2Layer(hidden, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, tokens, vocabulary]."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return F.linear(self.norm(self.layers(x)), self.tokens.weight)


def gpt2(input_shape: tuple[int, ...], classes: int | None) -> Gpt2:
    """Return the small size (table 2 of the paper): 12 layers of 768, 12 heads, 1024 positions."""
    del input_shape, classes
    return Gpt2(vocabulary=GPT2_VOCABULARY, context=1024, hidden=768, heads=12, layers=12)


class RotaryAttention(nn.Module):
    """Self-attention without biases whose queries and keys are turned by their position (Su et al. 2021)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.head_size = hidden // heads
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]; cos and sin are [tokens, head_size]."""
        query = rotated(_heads(self.query(x), self.head_size), cos, sin)
        key = rotated(_heads(self.key(x), self.head_size), cos, sin)
        value = _heads(self.value(x), self.head_size)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return x with feature i and feature i + size/2 turned together by an angle that grows with the position."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class SwiGlu(nn.Module):
    """Feed-forward with a gate: down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, intermediate, bias=False)
        self.up = nn.Linear(hidden, intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        return self.down(F.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class LlamaLayer(nn.Module):
    """Attention and gated feed-forward, each behind a root-mean-square norm and added to its input."""

    def __init__(self, hidden: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden, eps=1e-6)
        self.attention = RotaryAttention(hidden, heads)
        self.feed_forward_norm = nn.RMSNorm(hidden, eps=1e-6)
        self.feed_forward = SwiGlu(hidden, intermediate)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.feed_forward(self.feed_forward_norm(x))  # type: ignore[no-any-return]


class Llama(nn.Module):
    """Token embedding, layers, a last norm and a linear layer to logits, none of them with a bias."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(
        self, *, vocabulary: int, context: int, hidden: int, heads: int, intermediate: int, layers: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, hidden)
        self.layers = nn.ModuleList(LlamaLayer(hidden, heads, intermediate) for _ in range(layers))
        self.norm = nn.RMSNorm(hidden, eps=1e-6)
        self.head = nn.Linear(hidden, vocabulary, bias=False)
        size = hidden // heads
        speeds = 10_000.0 ** (-torch.arange(0, size, 2) / size)  # radians a position
        angles = torch.outer(torch.arange(context), speeds).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits, [batch, tokens, vocabulary]."""
        x, count = self.tokens(tokens), tokens.shape[1]
        cos, sin = self.cos[:count], self.sin[:count]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))  # type: ignore[no-any-return]


def llama_7b(input_shape: tuple[int, ...], classes: int | None) -> Llama:
    """Return the 7B size (table 2 of the paper): 32 layers of 4096, 32 heads, feed-forward 11008, 2048 positions."""
    del input_shape, classes
    return Llama(vocabulary=LLAMA_VOCABULARY, context=2048, hidden=4096, heads=32, intermediate=11008, layers=32)
