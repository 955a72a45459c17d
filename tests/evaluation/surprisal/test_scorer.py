"""Surprisals equal step-by-step scoring in every context, however the text is split."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch
from model_cases import VOCAB_SIZE, make_model
from texts import random_ids

from korlm.config import NgramConfig, ScoreContext, Smoothing
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import BOS_ID, EOS_ID, UNK_ID
from korlm.evaluation.surprisal import scorer as surprisal
from korlm.evaluation.surprisal.scorer import SurprisalScorer, rebatch
from korlm.models.base import LanguageModel
from korlm.models.ngram.model import NgramLM

MODELS = [("lstm", "adaptive"), ("gru", "learned_state"), ("window", "tied"), ("ngram", "order_3")]


def encoded(lines: list[tuple[str, list[int]]]) -> EncodedText:
    """Encode lines given as (document, ids before <eos>); a line without ids is blank."""
    ids = [token for _, line in lines for token in [*line, EOS_ID] if line]
    lengths = np.array([len(line) + 1 if line else 0 for _, line in lines])
    spelling = np.where(np.array(ids) == UNK_ID, 2.5, 0.0) if ids else np.zeros(0)
    table = pa.table({"doc_id": pa.array([doc for doc, _ in lines], pa.string())})
    array = np.array(ids, dtype=np.int64)
    return EncodedText(table, array, spelling, lengths, lengths, lengths)


def random_lines(count: int, seed: int = 0) -> list[tuple[str, list[int]]]:
    """Return lines of 0 to 12 tokens in documents of a few lines."""
    random = np.random.default_rng(seed)
    docs = np.cumsum(random.random(count) < 0.3)
    known = [token for token in range(VOCAB_SIZE) if token not in (0, BOS_ID, EOS_ID)]
    return [(f"d{doc}", random.choice(known, random.integers(0, 13)).tolist()) for doc in docs]


@torch.inference_mode()
def step_by_step(
    model: LanguageModel, lines: list[tuple[str, list[int]]], start_id: int, context: ScoreContext
) -> tuple[list[float], list[float]]:
    """Return surprisal and entropy of each token in bits, one step of one row at a time."""
    bits, entropy, last = [], [], ""
    state, previous = model.initial_state(1), start_id
    for doc, line in lines:
        if context is ScoreContext.line or (
            context is ScoreContext.document and doc != last and line
        ):
            state, previous = model.initial_state(1), start_id
        last = doc if line else last
        for token in [*line, EOS_ID] if line else []:
            log_probs, state = model.step(torch.tensor([previous]), state)
            exact = log_probs[0].double()
            bits.append(-float(exact[token]) / math.log(2))
            p = exact.exp()
            entropy.append(-float(torch.special.xlogy(p, p).sum()) / math.log(2))
            previous = start_id if token == EOS_ID else token
    return bits, entropy


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surprisal, "WINDOW", 40)
    monkeypatch.setattr("korlm.models.base.ENTROPY_BLOCK", 3 * VOCAB_SIZE)
    monkeypatch.setattr("korlm.modules.fused_cross_entropy.BLOCK", 2 * VOCAB_SIZE)


def split(lines: list[tuple[str, list[int]]], size: int) -> Iterator[EncodedText]:
    for begin in range(0, len(lines), size):
        yield encoded(lines[begin : begin + size])


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
@pytest.mark.parametrize("context", ScoreContext)
@pytest.mark.parametrize(("kind", "option"), MODELS)
def test_equals_step_by_step(kind: str, option: str, context: ScoreContext, start_id: int) -> None:
    model, lines = make_model(kind, option), random_lines(30)
    bits, entropy = step_by_step(model, lines, start_id, context)
    for size, batch_tokens in ((1, 5), (3, 30), (30, 1000)):
        scorer = SurprisalScorer(model, start_id, context, batch_tokens=batch_tokens)
        result = list(scorer.score(split(lines, size)))
        np.testing.assert_allclose(np.concatenate([c.surprisal for c in result]), bits, atol=1e-5)
        entropies = np.concatenate([c.entropy for c in result if c.entropy is not None])
        np.testing.assert_allclose(entropies, entropy, atol=1e-5)
        fast = SurprisalScorer(model, start_id, context, False, batch_tokens).score(
            split(lines, size)
        )
        nats = np.concatenate([c.surprisal for c in fast])
        np.testing.assert_allclose(nats, bits, atol=1e-5)


def test_open_surprisal_adds_the_spelling() -> None:
    (batch,) = SurprisalScorer(make_model("lstm"), EOS_ID, ScoreContext.line).score(
        [encoded(random_lines(40))]
    )
    is_unk = batch.lines.ids == UNK_ID
    assert is_unk.any() and batch.unknown.tolist() == is_unk.tolist()
    spelling_nats = (batch.open_surprisal - batch.surprisal) * math.log(2)
    np.testing.assert_allclose(spelling_nats, np.where(is_unk, 2.5, 0.0), atol=1e-9)


def test_blank_lines_alone_end_no_context() -> None:
    model = make_model("lstm")
    lines = [("d", [5, 6]), ("d", []), ("d", []), ("d", [7])]
    for context in (ScoreContext.document, ScoreContext.carried):
        bits, _ = step_by_step(model, lines, EOS_ID, context)
        surprisals = [
            c.surprisal for c in SurprisalScorer(model, EOS_ID, context).score(split(lines, 1))
        ]
        np.testing.assert_allclose(np.concatenate(surprisals), bits, atol=1e-5)


def test_unsmoothed_counts_give_infinite_surprisal() -> None:
    config = NgramConfig(name="ngram", order=2, smoothing=Smoothing.maximum_likelihood)
    model = NgramLM(config, VOCAB_SIZE)
    model.fit(np.array([5, 6, EOS_ID, 5, 7, EOS_ID]))
    (actual,) = SurprisalScorer(model, EOS_ID, ScoreContext.line).score(
        [encoded([("d", [5, 6, 9, 5])])]
    )
    assert actual.entropy is not None
    # 9 is unseen; unigram probabilities follow it; 5 never precedes <eos>.
    expected = [0, 1, math.inf, math.log2(3), math.inf]
    np.testing.assert_allclose(actual.surprisal, expected, atol=1e-6)
    assert not np.signbit(actual.surprisal[0])
    alone = math.log2(6) - 2 * (2 / 6)  # two of four types occur twice
    np.testing.assert_allclose(actual.entropy, [0, 1, 0, alone, 1], atol=1e-6)


def test_windows_keep_all_lines() -> None:
    lines = random_lines(50)
    windows = list(rebatch(split(lines, 2)))
    assert 1 < len(windows) < 25
    ids = np.concatenate([window.ids for window in windows])
    assert ids.tolist() == encoded(lines).ids.tolist()
    assert [d for w in windows for d in w.table["doc_id"].to_pylist()] == [d for d, _ in lines]
    assert list(rebatch([])) == []


def test_a_window_of_blank_lines() -> None:
    scorer = SurprisalScorer(make_model("lstm"), EOS_ID, ScoreContext.document)
    (result,) = scorer.score([encoded([("d", []), ("d", [])])])
    assert len(result.surprisal) == len(result.unknown) == 0


def test_a_long_line_is_scored_in_windows() -> None:
    model, ids = make_model("lstm"), random_ids(200)
    line = [("d", [token for token in ids.tolist() if token != EOS_ID])]
    bits, _ = step_by_step(model, line, EOS_ID, ScoreContext.line)
    (result,) = SurprisalScorer(model, EOS_ID, ScoreContext.line, batch_tokens=16).score(
        [encoded(line)]
    )
    np.testing.assert_allclose(result.surprisal, bits, atol=1e-5)
