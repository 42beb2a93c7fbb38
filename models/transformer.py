"""The encoder of Devlin et al. 2019, "BERT", in its base size: shapes only, no tokenizer and no trained weights.

Input is [batch, tokens] of whole numbers below `VOCABULARY`. One segment and no padding mask are assumed: every token
attends to every token, which is also what a cost model has to price.
"""

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY = 30_522  # WordPiece entries of the uncased model
MAX_TOKENS = 512


class Embeddings(nn.Module):
    """Sum of token, position and segment embeddings, normalised."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, hidden)
        self.position_embeddings = nn.Embedding(MAX_TOKENS, hidden)
        self.token_type_embeddings = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        # Positions and the segment are the same for every sample, so their sum depends on parameters only.
        fixed = self.position_embeddings.weight[: tokens.shape[1]] + self.token_type_embeddings.weight[0]
        return self.norm(self.word_embeddings(tokens) + fixed)  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Multi-head self-attention with its output projection; the number of heads follows from the projections."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.head_size = hidden // heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        split: torch.Tensor = x.unflatten(-1, (-1, self.head_size))  # type: ignore[no-untyped-call]
        return split.transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        query, key, value = self._heads(self.query(x)), self._heads(self.key(x)), self._heads(self.value(x))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each followed by the residual sum and its norm (post-norm, as published)."""

    def __init__(self, hidden: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.attention = SelfAttention(hidden, heads)
        self.attention_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.intermediate = nn.Linear(hidden, intermediate)
        self.gelu = nn.GELU()
        self.output = nn.Linear(intermediate, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [batch, tokens, hidden]."""
        x = self.attention_norm(x + self.attention(x))
        y = self.output(self.gelu(self.intermediate(x)))
        return self.output_norm(x + y)  # type: ignore[no-any-return]


class Bert(nn.Module):
    """Embeddings, encoder layers, pooler over the first token, and a classifier if classes are given."""

    def __init__(self, classes: int | None, *, hidden: int, heads: int, intermediate: int, layers: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(hidden)
        self.layer = nn.Sequential(*(EncoderLayer(hidden, heads, intermediate) for _ in range(layers)))
        self.pooler = nn.Linear(hidden, hidden)
        self.tanh = nn.Tanh()
        self.classifier = None if classes is None else nn.Linear(hidden, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the pooled feature [batch, hidden], or logits [batch, classes]."""
        x = self.layer(self.embeddings(tokens))
        pooled = self.tanh(self.pooler(x[:, 0]))
        return pooled if self.classifier is None else self.classifier(pooled)  # type: ignore[no-any-return]


def bert_base(input_shape: tuple[int, ...], classes: int | None) -> Bert:
    """Return the base size: 12 layers of 768, 12 heads, feed-forward 3072; it has one size for all token counts."""
    del input_shape
    return Bert(classes, hidden=768, heads=12, intermediate=3072, layers=12)
