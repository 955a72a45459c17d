"""Breakdowns add up to the whole text: every token once, every nat once."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from texts import random_nats, random_text, toy_run

from korlm.dataset.vocab import UNK_ID
from korlm.evaluation.breakdown import (
    FREQUENCY_BINS,
    POSITION_BINS,
    by_frequency,
    by_position,
    by_sentence,
)


@pytest.mark.parametrize("kind", ["bands", "positions"])
def test_groups_add_up(kind: str) -> None:
    text = random_text(700)
    nats = random_nats(text)
    counts = toy_run().vocab.counts
    groups = by_frequency(nats, text, counts) if kind == "bands" else by_position(nats, text)
    assert list(groups) == list(FREQUENCY_BINS if kind == "bands" else POSITION_BINS)
    totals = {key: sum(g[key] for g in groups.values()) for key in next(iter(groups.values()))}
    assert totals["num_tokens"] == len(text.ids)
    assert totals["nats"] == pytest.approx(nats.sum(), rel=1e-12)
    assert totals["spelling_nats"] == pytest.approx(text.spelling_nats.sum(), rel=1e-12)
    assert totals["token_share"] == pytest.approx(1)
    assert totals["nats_share"] == pytest.approx(1)
    for group in groups.values():
        if group["num_tokens"]:
            assert group["loss"] == pytest.approx(group["nats"] / group["num_tokens"])
            assert group["perplexity"] == pytest.approx(math.exp(group["loss"]))
        else:
            assert math.isnan(group["loss"])


def test_frequency_bins_by_hand() -> None:
    counts = list(toy_run().vocab.counts)
    counts[UNK_ID] = 100_000  # does not matter: unknown tokens count as 0
    text = random_text(400)
    nats = random_nats(text)
    groups = by_frequency(nats, text, counts)
    bounds = [*list(FREQUENCY_BINS.values())[1:], math.inf]
    for band, (low, high) in zip(
        FREQUENCY_BINS, zip(FREQUENCY_BINS.values(), bounds, strict=True), strict=True
    ):
        index = [
            n
            for n, token in enumerate(text.ids.tolist())
            if low <= (0 if token == UNK_ID else counts[token]) < high
        ]
        assert groups[band]["num_tokens"] == len(index)
        assert groups[band]["nats"] == pytest.approx(nats[index].sum())
    assert groups["1"]["num_tokens"] and groups["2-9"]["num_tokens"]


def test_positions_by_hand() -> None:
    text = random_text(60)
    lengths = np.array([1, 20, 21, 1, 17])
    lengths[-1] = 60 - lengths[:-1].sum()
    text = dataclasses.replace(
        text,
        **{name: getattr(text, name)[:5] for name in ("num_eojeol", "num_chars", "documents")},
        lengths=lengths,
    )
    nats = np.arange(60.0)
    groups = by_position(nats, text)
    assert groups["1"]["num_tokens"] == 5
    assert groups["1"]["nats"] == 0 + 1 + 21 + 42 + 43
    assert groups["20"]["nats"] == 20 + 40
    assert groups["21-30"]["nats"] == 41
    assert groups["31-50"]["num_tokens"] == groups["51+"]["num_tokens"] == 0


def test_a_long_sentence_reaches_the_last_bins() -> None:
    text = random_text(80, num_docs=1)
    first_sentence = {
        name: getattr(text, name)[:1] for name in ("num_eojeol", "num_chars", "documents")
    }
    text = dataclasses.replace(text, **first_sentence, lengths=np.array([80]))
    groups = by_position(np.ones(80), text)
    assert [groups[g]["num_tokens"] for g in ("21-30", "31-50", "51+")] == [10, 20, 30]


def test_sums_of_sentences_and_documents() -> None:
    text = random_text(500)
    nats = random_nats(text)
    sentences = by_sentence(nats, text)
    documents = sentences.grouped(text.documents, len(text.doc_ids))
    for sums, size in ((sentences, len(text.lengths)), (documents, len(text.doc_ids))):
        assert all(len(getattr(sums, field.name)) == size for field in dataclasses.fields(sums))
        assert sums.nats.sum() == pytest.approx(nats.sum(), rel=1e-12)
        assert sums.open_nats.sum() == pytest.approx(nats.sum() + text.spelling_nats.sum())
        assert sums.num_tokens.sum() == len(text.ids)
        assert sums.num_unk.sum() == (text.ids == UNK_ID).sum()
        assert sums.num_chars.sum() == text.num_chars.sum()
        assert sums.num_eojeol.sum() == text.num_eojeol.sum()
    third = text.documents == 2
    assert documents.num_chars[2] == text.num_chars[third].sum()
    inside = np.repeat(third, text.lengths)
    assert documents.nats[2] == pytest.approx(nats[inside].sum())
    assert documents.bits_per_char[2] == pytest.approx(
        (nats[inside].sum() + text.spelling_nats[inside].sum())
        / math.log(2)
        / text.num_chars[third].sum()
    )


def test_infinite_nats_stay_in_their_groups() -> None:
    text = random_text(300)
    nats = random_nats(text)
    nats[0] = np.inf
    documents = by_sentence(nats, text).grouped(text.documents, len(text.doc_ids))
    assert np.isinf(documents.nats).tolist() == [True, False, False, False, False]
    groups = by_position(nats, text)
    assert math.isinf(groups["1"]["perplexity"]) and math.isfinite(groups["2"]["perplexity"])
    assert math.isnan(groups["2"]["nats_share"])
