"""Attention of a decoder over the outputs of an encoder.

Bahdanau et al. 2015 (additive), Luong et al. 2015 (general, dot).

Axes: B batch, Q queries, S source tokens, H query features, M memory features, K key features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from korlm.config import AttentionScore
from korlm.modules.padding import valid_mask


class Memory(NamedTuple):
    """Encoder outputs that a decoder attends to, with projections computed once per source.

    Attributes:
        values: (B, S, M), the outputs of the encoder.
        keys: (B, S, K), what queries are compared with.
        mask: bool (B, S), False for padding; None if there is none.
    """

    values: Tensor
    keys: Tensor
    mask: Tensor | None

    def select(self, rows: Tensor) -> Memory:
        """Return the memory of some rows, int64 (B',)."""
        mask = None if self.mask is None else self.mask[rows]
        return Memory(self.values[rows], self.keys[rows], mask)


class Attention(nn.Module):
    """Weighted mean of the encoder outputs, with weights that depend on a query.

    Scores of a query q and an output m: ``additive`` v tanh(W q + U m) with K = H (Bahdanau et al.
    2015, appendix A.1.2); ``general`` q W m, ``dot`` q m (Luong et al. 2015, equation 8).

    Args:
        score: the formula.
        query_dim: H.
        memory_dim: M; equal to H for ``dot``.
    """

    def __init__(self, score: AttentionScore, query_dim: int, memory_dim: int) -> None:
        super().__init__()
        self.key = self.query = self.score = None
        if score is AttentionScore.dot:
            assert query_dim == memory_dim
        else:
            self.key = nn.Linear(memory_dim, query_dim, bias=False)
        if score is AttentionScore.additive:
            self.query = nn.Linear(query_dim, query_dim)
            self.score = nn.Linear(query_dim, 1, bias=False)

    def memory(self, values: Tensor, lengths: Tensor | None) -> Memory:
        """Return the memory of encoder outputs (B, S, M); without lengths (B,) all S are valid."""
        keys = values if self.key is None else self.key(values)
        return Memory(values, keys, None if lengths is None else valid_mask(values, lengths))

    def forward(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the contexts (B, Q, M) and the weights (B, Q, S) of queries (B, Q, H)."""
        if self.query is None:
            scores = query @ memory.keys.transpose(1, 2)
        else:
            assert self.score is not None
            hidden = torch.tanh(self.query(query)[:, :, None] + memory.keys[:, None])
            scores = self.score(hidden)[..., 0]  # (B, Q, S)
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask[:, None], -torch.inf)
        weights = scores.softmax(-1)
        return weights.to(memory.values.dtype) @ memory.values, weights
