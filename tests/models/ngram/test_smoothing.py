"""Probabilities from counts, computed by hand."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from model_cases import VOCAB_SIZE, random_text

from korlm.config import NgramConfig, Smoothing
from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID
from korlm.models.ngram.model import NgramLM
from korlm.models.ngram.smoothing import FALLBACK, estimate_discounts

# "4 5", "4 5", "4 6" and "5": a vocabulary of <unk>, <eos>, 4, 5 and 6.
TEXT = np.array([4, 5, EOS_ID, 4, 5, EOS_ID, 4, 6, EOS_ID, 5, EOS_ID])
V = 7


def probs(text: np.ndarray, vocab_size: int, *read: int, **config: object) -> list[float]:
    """Return the predictions of a model of these settings after a context."""
    model = NgramLM(NgramConfig(name="ngram", **config), vocab_size)
    model.fit(text)
    log_probs, _ = model.log_probs(torch.tensor([read]))
    return log_probs[0, -1].double().exp().tolist()


def test_discounts_by_hand() -> None:
    """N1, n2, n3, n4 = 8, 4, 2, 1: Y = 8 / 16, and each discount j - (j + 1) Y n(j+1) / n(j)."""
    found = estimate_discounts([8, 4, 2, 1], order=2)
    assert found == pytest.approx((1 - 2 / 2 * 4 / 8, 2 - 3 / 2 * 2 / 4, 3 - 4 / 2 * 1 / 2))


@pytest.mark.parametrize("counts", [[1, 2], [1, 3, 3], [2, 2, 3], [1, 2, 3, 4, 4, 4, 4]])
def test_too_few_counts_use_the_fallback(
    caplog: pytest.LogCaptureFixture, counts: list[int]
) -> None:
    """Discounts out of range, as with the last counts, also use it."""
    sizes = [counts.count(number) for number in (1, 2, 3, 4)]
    with caplog.at_level(logging.WARNING):
        assert estimate_discounts(sizes, order=3) == FALLBACK
    assert "order 3" in caplog.text
    assert "falling back to 0.5, 1.0 and 1.5" in caplog.text


def test_kneser_ney_by_hand() -> None:
    """A bigram model with the fallback's discounts.

    Unigrams count the tokens before them: <eos> 5, 6 (2), 4 <s> (1), 5 4 and <s> (2), 6 4 (1); in
    all 6. Discounts 0.5, 1, 1.5 by counts 1, 2, 3: 1 + 0.5 + 1 + 0.5 = 3 of 6 go to 1 / 5 each.
    """
    lower = {4: 0.5 / 6 + 0.1, 5: 1 / 6 + 0.1, 6: 0.5 / 6 + 0.1, EOS_ID: 1 / 6 + 0.1, 1: 0.1}
    assert sum(lower.values()) == pytest.approx(1)
    # After 4: 5 twice, 6 once; 1 + 0.5 of 3 are kept for the unigrams.
    expected = {token: 0.5 * p for token, p in lower.items()}
    expected[5] += (2 - 1) / 3
    expected[6] += (1 - 0.5) / 3
    actual = probs(TEXT, V, EOS_ID, 4, order=2)
    assert {token: actual[token] for token in expected} == pytest.approx(expected)
    # Sentence starts use plain counts: 4 three times and 5 once; 1.5 + 0.5 of 4 are discounted.
    actual = probs(TEXT, V, EOS_ID, order=2)
    assert actual[4] == pytest.approx(1.5 / 4 + 0.5 * lower[4])
    assert actual[5] == pytest.approx(0.5 / 4 + 0.5 * lower[5])
    # After an unseen token, the unigrams alone determine the probabilities.
    assert probs(TEXT, V, 1, order=2)[5] == pytest.approx(lower[5])


def test_kneser_ney_of_order_1() -> None:
    """4 three times, 5 three, 6 once, <eos> four: 1.5 + 1.5 + 0.5 + 1.5 of 11 are kept."""
    result = probs(TEXT, V, EOS_ID, 4, order=1)
    assert result[5] == pytest.approx(1.5 / 11 + 5 / 11 / 5)
    assert result[1] == pytest.approx(5 / 11 / 5)


def test_maximum_likelihood() -> None:
    settings = {"order": 3, "smoothing": Smoothing.maximum_likelihood}
    result = probs(TEXT, V, EOS_ID, 4, **settings)
    assert result == pytest.approx([0, 0, 0, 0, 0, 2 / 3, 1 / 3])
    # "6 5" is unseen, but 5 occurs, always before <eos>.
    assert probs(TEXT, V, 6, 5, **settings)[EOS_ID] == 1
    # <unk> is unseen: unigram frequencies.
    assert probs(TEXT, V, 1, **settings) == pytest.approx([0, 0, 0, 4 / 11, 3 / 11, 3 / 11, 1 / 11])


@pytest.mark.parametrize("k", [1.0, 0.01])
def test_add_k(k: float) -> None:
    settings = {"order": 3, "smoothing": Smoothing.add_k, "add_k": k}
    floor = 3 + 5 * k
    expected = [0, k, 0, k, k, 2 + k, 1 + k]
    assert probs(TEXT, V, EOS_ID, 4, **settings) == pytest.approx([e / floor for e in expected])
    # A sentence start is a full context; an unknown context predicts uniformly.
    assert probs(TEXT, V, EOS_ID, **settings)[4] == pytest.approx((3 + k) / (4 + 5 * k))
    assert probs(TEXT, V, 6, 5, **settings) == pytest.approx([0, 0.2, 0, 0.2, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("smoothing", Smoothing)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_distribution_sums_to_one(smoothing: Smoothing, order: int) -> None:
    text = random_text(200, seed=4)
    for read in ([EOS_ID], [4], [1, 9], [9, 9, 9, 9], [5, EOS_ID, 4, 3], [PAD_ID]):
        result = probs(text, VOCAB_SIZE, *read, order=order, smoothing=smoothing)
        assert sum(result) == pytest.approx(1, abs=1e-6)
        assert result[PAD_ID] == result[BOS_ID] == 0
        assert not any(math.isnan(p) for p in result)
