"""Every token once, in the order of the text, with the state that each way promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_cases import make_model
from texts import VOCAB_SIZE, UnigramLM, random_text

from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.evaluation import token_scores
from korlm.evaluation.neural_cache import NeuralCache
from korlm.evaluation.token_scores import score, score_continuous, score_sentences
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
    monkeypatch.setattr(token_scores, "ROWS", 3)


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
@pytest.mark.parametrize("kind", MODELS)
def test_carried_is_one_long_row(kind: str, start_id: int) -> None:
    model, text = make_model(kind), random_text(30, start_id)
    targets = text.ids.tolist()
    inputs = [start_id if token == EOS_ID else token for token in [EOS_ID, *targets[:-1]]]
    found = score(score_continuous(model, text), len(text), "carried")
    np.testing.assert_allclose(found.nats, nats_of(model, inputs, targets), atol=1e-5)
    assert found.nats.dtype == np.float64


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut_off"])
def test_reset_is_each_sentence_alone(kind: str, start_id: int, whole: bool) -> None:
    model, text = make_model(kind), random_text(40, start_id)
    if not whole:
        text.ids[-1] = 5
    expected, sentence = [], []
    for place, token in enumerate(text.ids.tolist()):
        sentence.append(token)
        if token == EOS_ID or place == len(text) - 1:
            expected.append(nats_of(model, [start_id, *sentence[:-1]], sentence))
            sentence = []
    assert max(map(len, expected)) > token_scores.WINDOW
    found = score_sentences(model, text)
    np.testing.assert_allclose(found.nats, np.concatenate(expected), atol=1e-5)


def test_both_ways_differ() -> None:
    model, text = make_model("lstm"), random_text(40)
    carried = score(score_continuous(model, text), len(text), "carried").nats
    assert not np.allclose(carried, score_sentences(model, text).nats, atol=1e-3)


def test_hidden_vectors_explain_the_nats() -> None:
    model, text = make_model("lstm", "tied"), random_text(10)
    assert isinstance(model, NeuralLM)
    for window in score_continuous(model, text):
        assert window.hidden is not None
        with torch.inference_mode():
            again = model.output.token_nll(window.hidden, window.targets)
        torch.testing.assert_close(again, window.nats)


def test_a_model_without_hidden_vectors_has_none() -> None:
    windows = score_continuous(UnigramLM([1 / VOCAB_SIZE] * VOCAB_SIZE), random_text(10))
    assert {window.hidden for window in windows} == {None}


def test_a_cache_is_asked_the_same_however_windows_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    model, text = make_model("lstm"), random_text(30)
    settings = [(3, 0.0), (20, 0.5)]
    found = []
    for window in (1, 7, 100):
        monkeypatch.setattr(token_scores, "WINDOW", window)
        cache = NeuralCache(VOCAB_SIZE, settings)
        found.append(score(score_continuous(model, text), len(text), "cached", cache).cached)
    for setting in settings:
        for other in found[1:]:
            np.testing.assert_allclose(other[setting].nats, found[0][setting].nats, rtol=1e-4)
