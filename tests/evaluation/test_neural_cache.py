"""The cache equals its definition, computed in two loops."""

from __future__ import annotations

import math

import pytest
import torch
from texts import VOCAB_SIZE
from torch import Tensor

from korlm.evaluation.neural_cache import NeuralCache


def by_definition(
    hidden: Tensor, tokens: list[int], t: int, size: int, theta: float
) -> list[float]:
    """Return p_cache(w | h_t) for every w (Grave et al. 2017, equation 3)."""
    sums = [0.0] * VOCAB_SIZE
    for i in range(max(t - size, 0), t):
        sums[tokens[i]] += math.exp(theta * float(hidden[t] @ hidden[i]))
    return [part / sum(sums) if sum(sums) else 1 / VOCAB_SIZE for part in sums]


def random_states(length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(length, 5, generator=generator, dtype=torch.float64)
    return hidden, torch.randint(1, VOCAB_SIZE, (length,), generator=generator)


@pytest.mark.parametrize("blocks", [[20], [1] * 20, [3, 10, 1, 6]], ids=str)
@pytest.mark.parametrize("size", [1, 4, 50])
@pytest.mark.parametrize("theta", [0.0, 0.3, 2.0])
def test_equals_the_definition(blocks: list[int], size: int, theta: float) -> None:
    hidden, tokens = random_states(sum(blocks))
    cache = NeuralCache(VOCAB_SIZE, [(7, 0.1), (size, theta)])
    begin = 0
    for length in blocks:
        part = slice(begin, begin + length)
        probs = cache.look_up(hidden[part], tokens[part])
        assert probs.shape == (2, length)
        for t in range(begin, begin + length):
            expected = by_definition(hidden, tokens.tolist(), t, size, theta)[int(tokens[t])]
            assert float(probs[1, t - begin]) == pytest.approx(expected, rel=1e-9)
        begin += length


@pytest.mark.parametrize("length", [1, 2, 12])
def test_probabilities_sum_to_1(length: int) -> None:
    hidden, tokens = random_states(length)
    total = torch.zeros(1, dtype=torch.float64)
    for token in range(VOCAB_SIZE):
        last = torch.tensor([*tokens[:-1].tolist(), token])
        total += NeuralCache(VOCAB_SIZE, [(5, 0.7)]).look_up(hidden, last)[:, -1]
    assert float(total) == pytest.approx(1)
