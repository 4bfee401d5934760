"""What ELIQ reads quality with: a small bank of learned queries over tokens, and a gate between two streams."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["QUERIES", "GatedFusion", "QualityQueries"]

QUERIES = 8
_LAYERS = 2
_HEADS = 5


class _QueryLayer(nn.Module):
    """Queries speak with one another, look at the tokens, and think."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.itself = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.across = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.think = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        x = self.norms[0](queries)
        queries = queries + self.itself(x, x, x, need_weights=False)[0]
        queries = queries + self.across(self.norms[1](queries), tokens, tokens, need_weights=False)[0]
        thought: Tensor = self.think(self.norms[2](queries))
        return queries + thought


class QualityQueries(nn.Module):
    """A small bank of learned queries over all tokens: (B, T, D) -> (B, Q, D).

    Source: the Quality Query Transformer of ELIQ (2026); number of queries and layers are ours.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, QUERIES, width) * 0.3)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_QueryLayer(width) for _ in range(_LAYERS))

    def forward(self, tokens: Tensor) -> Tensor:
        """What the queries found."""
        tokens, queries = self.norm(tokens), self.queries.expand(tokens.shape[0], -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        return queries


class GatedFusion(nn.Module):
    """Mixes what the picture shows (semantic) with how it is drawn (visual), element by element.

    Source: gated fusion of ELIQ (2026), and of MA-AGIQA (2024) between semantics and quality.
    """

    def __init__(self, semantic: int, visual: int, width: int) -> None:
        super().__init__()
        self.semantic, self.visual = nn.Linear(semantic, width), nn.Linear(visual, width)
        self.gate = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, semantic: Tensor, visual: Tensor) -> Tensor:
        """(B, S) and (B, V) -> (B, width)."""
        one, other = self.semantic(semantic), self.visual(visual)
        share = torch.sigmoid(self.gate(torch.cat([one, other], -1)))
        return F.gelu(self.norm(share * one + (1 - share) * other))
