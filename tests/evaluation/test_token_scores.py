"""Every token is scored once, in text order, with the state that each function documents."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from model_cases import make_model
from texts import VOCAB_SIZE, UnigramLM, random_ids

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID
from korlm.evaluation import token_scores
from korlm.evaluation.neural_cache import NeuralCache
from korlm.evaluation.token_scores import (
    collect_scores,
    score_continuous,
    score_sentences,
    windows,
)
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM

MODELS = ["pairs", "lstm", "gru"]


def nats_of(model: LanguageModel, inputs: list[int], targets: list[int]) -> np.ndarray:
    with torch.inference_mode():
        nats, _ = model.token_nll(torch.tensor([inputs]), torch.tensor([targets]))
    return nats[0].double().numpy()


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_scores, "WINDOW", 4)
    monkeypatch.setattr(token_scores, "MAX_ROWS", 3)


def test_windows_by_hand() -> None:
    ids = np.array([5, EOS_ID, 6, 7, EOS_ID], np.uint16)
    starts, lengths = np.array([2, 0]), np.array([3, 2])
    first, second = windows(ids, starts, lengths, BOS_ID, 2)
    assert [part.tolist() for part in first] == [
        [[2, 3], [0, 1]],
        [[BOS_ID, 6], [BOS_ID, 5]],
        [[6, 7], [5, EOS_ID]],
    ]
    assert [part.tolist() for part in second] == [
        [[4], [-1]],
        [[7], [PAD_ID]],
        [[EOS_ID], [PAD_ID]],
    ]
    ((_, inputs, _),) = windows(ids, np.array([0]), np.array([5]), BOS_ID, 9)
    assert inputs.tolist() == [[BOS_ID, 5, BOS_ID, 6, 7]]


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
@pytest.mark.parametrize("kind", MODELS)
def test_the_carried_state(kind: str, start_id: int) -> None:
    model, ids = make_model(kind), random_ids(30)
    targets = ids.tolist()
    inputs = [start_id if token == EOS_ID else token for token in [EOS_ID, *targets[:-1]]]
    scores = collect_scores(score_continuous(model, ids, start_id), len(ids), "carried")
    np.testing.assert_allclose(scores.nats, nats_of(model, inputs, targets), atol=1e-5)
    assert scores.nats.dtype == np.float64


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut_off"])
def test_the_reset_state(kind: str, start_id: int, whole: bool) -> None:
    model, ids = make_model(kind), random_ids(40)
    if not whole:
        ids[-1] = 5
    expected, sentence = [], []
    for position, token in enumerate(ids.tolist()):
        sentence.append(token)
        if token == EOS_ID or position == len(ids) - 1:
            expected.append(nats_of(model, [start_id, *sentence[:-1]], sentence))
            sentence = []
    assert max(map(len, expected)) > token_scores.WINDOW
    nats = score_sentences(model, ids, start_id).nats
    np.testing.assert_allclose(nats, np.concatenate(expected), atol=1e-5)
    carried = collect_scores(score_continuous(model, ids, start_id), len(ids), "carried").nats
    assert kind == "pairs" or not np.allclose(carried, nats, atol=1e-3)


def test_hidden_states_predict_the_targets() -> None:
    model, ids = make_model("lstm", "tied"), random_ids(10)
    assert isinstance(model, NeuralLM)
    for window in score_continuous(model, ids, EOS_ID):
        assert window.hidden is not None
        with torch.inference_mode():
            again = model.output.token_nll(window.hidden, window.targets)
        torch.testing.assert_close(again, window.nats)
    unigrams = UnigramLM([1 / VOCAB_SIZE] * VOCAB_SIZE)
    assert {window.hidden for window in score_continuous(unigrams, ids, EOS_ID)} == {None}


def test_cache_settings_share_the_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks once per reading, the lookup of each of two windows takes 1 s."""
    monkeypatch.setattr(token_scores, "time", SimpleNamespace(perf_counter=count().__next__))
    cache = NeuralCache(VOCAB_SIZE, [(3, 0.0), (20, 0.5)])
    scored = score_continuous(make_model("lstm"), random_ids(8), EOS_ID)
    scores = collect_scores(scored, 8, "cached", cache)
    assert [part.seconds for part in scores.cached.values()] == [1, 1]


def test_cache_scores_do_not_depend_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = make_model("lstm"), random_ids(30)
    settings = [(3, 0.0), (20, 0.5)]
    cached = []
    for window in (1, 7, 100):
        monkeypatch.setattr(token_scores, "WINDOW", window)
        cache = NeuralCache(VOCAB_SIZE, settings)
        scored = score_continuous(model, ids, EOS_ID)
        cached.append(collect_scores(scored, len(ids), "cached", cache).cached)
    for setting in settings:
        for other in cached[1:]:
            np.testing.assert_allclose(other[setting].nats, cached[0][setting].nats, rtol=1e-4)
