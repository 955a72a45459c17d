"""Counts by array operations equal those of a dictionary."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from model_cases import VOCAB_SIZE, random_text

from korlm.dataset.storage.id_stream import IdStream
from korlm.dataset.vocab import EOS_ID
from korlm.models.ngram import counts
from korlm.models.ngram.columns import SORT_BYTES, Column, Columns
from korlm.models.ngram.counts import NgramCounts, _sort, count_grams, max_order

Gram = tuple[int, ...]
COLUMNS = ("keys", "counts", "suffixes", "starts_sentence")


def nothing() -> None:
    """Do nothing: a stop check that never stops."""


def count(
    ids: np.ndarray | IdStream,
    order: int,
    columns: Columns | None = None,
    vocab_size: int = VOCAB_SIZE,
) -> list[NgramCounts]:
    """Count, and keep the counts in memory."""
    with columns or Columns() as storage:
        return [
            NgramCounts(*(in_memory(getattr(level, name)) for name in COLUMNS))
            for level in count_grams(ids, vocab_size, order, nothing, storage)
        ]


def in_memory(column: Column) -> Column:
    """Return a copy of a column."""
    copy = Column(column.dtype)
    copy.append(column.read())
    return copy


def spell(grams: list[NgramCounts], order: int, vocab_size: int = VOCAB_SIZE) -> list[Gram]:
    """Return the counts of an order by n-gram, as tuples of ids."""
    if order == 1:
        return [(int(key),) for key in grams[0].keys.read()]
    shorter = spell(grams, order - 1, vocab_size)
    keys = grams[order - 1].keys.read().tolist()
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


@pytest.mark.parametrize("rows", [None, 16, 30, 100, 1000])
@pytest.mark.parametrize("tail", [[], [4, 5]], ids=["whole", "cut"])
def test_counts_equal_a_dictionary(tail: list[int], rows: int | None) -> None:
    """The last sentence may be incomplete, and the memory small."""
    ids = np.concatenate([random_text(300, seed=1), [EOS_ID], tail]).astype(np.uint16)
    memory = None if rows is None else rows * SORT_BYTES
    grams = count(IdStream([ids[:100], ids[100:]]), 5, Columns(memory))
    assert len(grams) == 5
    unigrams = np.bincount(ids, minlength=VOCAB_SIZE)
    assert grams[0].counts.read().tolist() == unigrams.tolist()
    for order in range(2, 6):
        level, found = grams[order - 1], spell(grams, order)
        keys, counts, suffixes, starts = (getattr(level, name).read() for name in COLUMNS)
        assert (np.diff(keys) > 0).all()
        assert dict(zip(found, counts.tolist(), strict=True)) == count_slowly(ids, order)
        shorter = spell(grams, order - 1)
        assert [shorter[i] for i in keys // VOCAB_SIZE] == [gram[:-1] for gram in found]
        assert [shorter[i] for i in suffixes] == [gram[1:] for gram in found]
        assert starts.tolist() == [gram[0] == EOS_ID for gram in found]


def test_a_token_that_exceeds_the_memory() -> None:
    """Half of the text is one token, so that its bigrams are sorted in several ranges."""
    ids = np.random.default_rng(1).integers(4, VOCAB_SIZE, 400)
    ids[::2] = 5
    found, expected = count(ids, 3, Columns(20 * SORT_BYTES)), count(ids, 3)
    for part, whole in zip(found, expected, strict=True):
        for name in COLUMNS:
            assert getattr(part, name).read().tolist() == getattr(whole, name).read().tolist()


def test_each_pass_over_the_text_counts_ngrams(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pass is made for the prefixes that end with a sentence, however frequent they are."""
    sizes: list[int] = []

    def sort(keys: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(len(keys))
        return _sort(keys, end)

    monkeypatch.setattr(counts, "_sort", sort)
    ids = np.array([4, 5, 6, 5, EOS_ID] * 100)
    found, expected = count(ids, 4, Columns(16 * SORT_BYTES)), count(ids, 4)
    assert min(sizes) > 0
    for part, whole in zip(found, expected, strict=True):
        assert part.counts.read().tolist() == whole.counts.read().tolist()


def test_columns_of_many_passes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may open a limited number of files; a column on disk is one."""
    made: list[object] = []
    new = Columns.new
    monkeypatch.setattr(Columns, "new", lambda self, dtype: made.append(dtype) or new(self, dtype))
    count(np.random.default_rng(1).integers(4, VOCAB_SIZE, 400), 2, Columns(4 * SORT_BYTES))
    assert len(made) == 2 * 4 + 3  # four of each order, and three of order 2 while it is counted


def test_keys_that_do_not_fit_beside_their_rows() -> None:
    """Keys of 50 bits and 15 bits of rows are more than 64."""
    keys = np.random.default_rng(1).integers(0, 1 << 50, 1 << 15)
    keys[::7] = keys[0]
    for end in (1 << 50, 1 << 40):
        ordered, rows = _sort(keys % end, end)
        assert ordered.tolist() == sorted((keys % end).tolist())
        assert (keys % end)[rows].tolist() == ordered.tolist()


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
    found = count(np.array(ids), longest, vocab_size=9)
    assert [int(level.counts.read().sum()) > 0 for level in found] == [True] * longest
    assert max(len(gram) for gram in count_slowly(np.array(ids), longest)) == longest
    assert not count_slowly(np.array(ids), longest + 1)


def test_check_is_called_between_orders() -> None:
    calls: list[int] = []
    with Columns() as columns:
        levels = count_grams(
            random_text(100, seed=1), VOCAB_SIZE, 4, lambda: calls.append(1), columns
        )
        assert len(list(levels)) == 4
    assert len(calls) == 3
