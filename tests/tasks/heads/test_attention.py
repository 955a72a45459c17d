"""Attention against a loop over pairs of a query and an encoder output."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from korlm.config import AttentionScore
from korlm.tasks.heads.attention import Attention

B, Q, S, H, M = 3, 2, 4, 5, 6
LENGTHS = torch.tensor([4, 1, 3])


def score_of(attention: Attention, query: Tensor, output: Tensor) -> float:
    """Return the score of a query (H,) and an output (M,) by the formulas of the papers."""
    if attention.key is None:
        return float(query @ output)
    if attention.query is None:
        return float(query @ (attention.key.weight @ output))
    assert attention.score is not None
    hidden = attention.query.weight @ query + attention.query.bias + attention.key.weight @ output
    return float(attention.score.weight[0] @ hidden.tanh())


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("score", AttentionScore)
@torch.no_grad()
def test_attention_equals_a_loop(score: AttentionScore, lengths: Tensor | None) -> None:
    torch.manual_seed(0)
    memory_dim = H if score is AttentionScore.dot else M
    attention = Attention(score, H, memory_dim)
    values, queries = torch.randn(B, S, memory_dim), torch.randn(B, Q, H)
    contexts, weights = attention(queries, attention.memory(values, lengths))
    assert contexts.shape == (B, Q, memory_dim) and weights.shape == (B, Q, S)
    for b in range(B):
        valid = S if lengths is None else int(lengths[b])
        for q in range(Q):
            exps = [
                math.exp(score_of(attention, queries[b, q], values[b, s])) for s in range(valid)
            ]
            expected = torch.tensor([e / sum(exps) for e in exps] + [0.0] * (S - valid))
            torch.testing.assert_close(weights[b, q], expected)
            torch.testing.assert_close(contexts[b, q], expected @ values[b])


def test_padding_and_selection_of_rows() -> None:
    torch.manual_seed(0)
    attention = Attention(AttentionScore.general, H, M)
    values, queries = torch.randn(B, S, M), torch.randn(B, Q, H)
    memory = attention.memory(values, LENGTHS)
    expected, _ = attention(queries, memory)
    longer = torch.cat([values, torch.full((B, 3, M), 100.0)], 1)
    padded, _ = attention(queries, attention.memory(longer, LENGTHS))
    torch.testing.assert_close(padded, expected)
    rows = torch.tensor([2, 0])
    selected, _ = attention(queries[rows], memory.select(rows))
    torch.testing.assert_close(selected, expected[rows])
