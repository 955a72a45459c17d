"""Counts by array operations equal those of a dictionary."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from model_cases import VOCAB_SIZE, random_text

from korlm.dataset.vocab import EOS_ID
from korlm.models.ngram.counts import NgramCounts, count_grams, max_order

Gram = tuple[int, ...]


def nothing() -> None:
    """Do nothing: a stop check that never stops."""


def spell(grams: list[NgramCounts], order: int, vocab_size: int = VOCAB_SIZE) -> list[Gram]:
    """Return the counts of an order by n-gram, as tuples of ids."""
    if order == 1:
        return [(int(key),) for key in grams[0].keys]
    shorter = spell(grams, order - 1, vocab_size)
    keys = grams[order - 1].keys.tolist()
    return [(*shorter[key // vocab_size], key % vocab_size) for key in keys]


def count_slowly(ids: np.ndarray, order: int) -> Counter[Gram]:
    """Count the n-grams of each sentence, with <eos> before and after it."""
    counts: Counter[Gram] = Counter()
    sentence = [EOS_ID]
    for number, token_id in enumerate(ids.tolist(), start=1):
        sentence.append(token_id)
        if token_id == EOS_ID or number == len(ids):
            counts.update(tuple(sentence[i : i + order]) for i in range(len(sentence) - order + 1))
            sentence = [EOS_ID]
    return counts


@pytest.mark.parametrize("tail", [[], [4, 5]], ids=["whole", "cut"])
def test_counts_equal_a_dictionary(tail: list[int]) -> None:
    """The last sentence may be incomplete."""
    ids = np.concatenate([random_text(300, seed=1), [EOS_ID], tail]).astype(np.uint16)
    grams = count_grams(ids, VOCAB_SIZE, 5, nothing)
    assert len(grams) == 5
    assert grams[0].counts.tolist() == np.bincount(ids, minlength=VOCAB_SIZE).tolist()
    for order in range(2, 6):
        level, result = grams[order - 1], spell(grams, order)
        assert (np.diff(level.keys) > 0).all()
        assert dict(zip(result, level.counts.tolist(), strict=True)) == count_slowly(ids, order)
        shorter = spell(grams, order - 1)
        assert [shorter[i] for i in level.prefixes] == [gram[:-1] for gram in result]
        assert [shorter[i] for i in level.suffixes] == [gram[1:] for gram in result]
        assert level.starts_sentence.tolist() == [gram[0] == EOS_ID for gram in result]


@pytest.mark.parametrize(
    ("ids", "longest"),
    [
        ([4, EOS_ID, 5, 6, EOS_ID], 4),
        ([4, 5, 6, EOS_ID, 4, EOS_ID], 5),
        ([4, EOS_ID, 5, 6, 7, 8], 5),
        ([4], 2),
        ([EOS_ID], 2),
    ],
)
def test_max_order(ids: list[int], longest: int) -> None:
    assert max_order(np.array(ids)) == longest
    result = count_grams(np.array(ids), 9, longest, nothing)
    assert [int(level.counts.sum()) > 0 for level in result] == [True] * longest
    assert max(len(gram) for gram in count_slowly(np.array(ids), longest)) == longest
    assert not count_slowly(np.array(ids), longest + 1)


def test_check_is_called_between_orders() -> None:
    calls: list[int] = []
    count_grams(random_text(100, seed=1), VOCAB_SIZE, 4, lambda: calls.append(1))
    assert len(calls) == 3
