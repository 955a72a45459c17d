"""Modes of a model; hyperparameters come from the tuning text only."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import make_model
from texts import VOCAB_SIZE, UnigramLM, random_ids, toy_run

from korlm.config import CacheConfig, DynamicConfig
from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.evaluation import modes, token_scores
from korlm.evaluation.modes import EvaluationModes, ModeResult, TunedModes, run_modes, tune
from korlm.evaluation.token_scores import (
    TokenScores,
    Window,
    collect_scores,
    score_continuous,
    score_sentences,
)

CACHE = CacheConfig(sizes=[5, 20], flatness=[0.0, 0.3])
DYNAMIC = DynamicConfig(
    segment=5, learning_rates=[1e-3, 1e-2], tune_tokens=30, statistics_tokens=30
)
TRAIN, VALID, TEST = (random_ids(60, seed) for seed in range(3))


def unigrams() -> UnigramLM:
    return UnigramLM([0.0, 0.01, 0.01, 0.18] + [0.8 / (VOCAB_SIZE - 4)] * (VOCAB_SIZE - 4))


def modes_of(others: dict[str, Any], dynamic: DynamicConfig = DYNAMIC) -> EvaluationModes:
    return EvaluationModes(others, CACHE, dynamic, torch.device("cpu"))


def tuned(
    kind: str | None, others: dict[str, Any] | None = None, dynamic: DynamicConfig = DYNAMIC
) -> tuple[TunedModes, dict[str, ModeResult]]:
    run = toy_run(model=unigrams() if kind is None else make_model(kind))
    return tune(run, modes_of(others or {}, dynamic), VALID, TRAIN)


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        (None, ["carried", "reset"]),  # neither parameters nor hidden states
        ("pairs", ["carried", "reset", "dynamic", "all"]),  # no hidden states
        ("lstm", ["carried", "reset", "cache", "dynamic", "all"]),
    ],
)
def test_modes_of_a_model(kind: str | None, modes: list[str]) -> None:
    _, results = tuned(kind)
    assert list(results) == modes
    if "all" in modes:
        assert ("cache" in results["all"].settings["weights"]) == ("cache" in modes)


def test_hyperparameters_are_kept_for_other_texts() -> None:
    others = {"uni": toy_run(model=unigrams()), "gru": toy_run(model=make_model("gru"))}
    run = toy_run(model=make_model("lstm"))
    chosen, valid = tune(run, modes_of(others), VALID, TRAIN)
    test = run_modes(run, others, TEST, chosen)
    assert list(valid) == ["carried", "reset", "cache", "dynamic", "uni", "gru", "mix", "all"]
    for name in valid:
        assert valid[name].settings == test[name].settings
        assert len(valid[name].nats) == len(test[name].nats) == 60
        assert valid[name].seconds > 0
        assert not np.array_equal(valid[name].nats, test[name].nats)
    for name, result in run_modes(run, others, VALID, chosen).items():
        np.testing.assert_allclose(result.nats, valid[name].nats, rtol=1e-6)
    assert valid["mix"].settings["weights"]["uni"] > 0.5  # the networks are untrained
    _, tuned_on_test = tune(run, modes_of(others), TEST, TRAIN)
    assert tuned_on_test["all"].settings != test["all"].settings


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
def test_other_runs_are_scored_in_their_trained_mode(start_id: int) -> None:
    gru = toy_run(model=make_model("gru"), start_id=start_id)
    _, results = tuned("lstm", {"gru": gru})
    if start_id == BOS_ID:
        expected = score_sentences(gru.model, VALID, start_id).nats
    else:
        windows = score_continuous(gru.model, VALID, start_id)
        expected = collect_scores(windows, len(VALID), "carried").nats
    np.testing.assert_array_equal(results["gru"].nats, expected)


@pytest.mark.parametrize("rates", [[1e-3, 1e30], [1e30]])
def test_a_learning_rate_that_diverges_is_not_chosen(rates: list[float]) -> None:
    dynamic = DynamicConfig(segment=5, learning_rates=rates, tune_tokens=30, statistics_tokens=30)
    _, results = tuned("lstm", dynamic=dynamic)
    if len(rates) > 1:
        assert results["dynamic"].settings["learning_rate"] == 1e-3
    assert np.isfinite(results["all"].nats).all()


def test_a_model_that_is_not_adapted_needs_no_dynamic_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dynamic = DynamicConfig(segment=5, learning_rates=[1e30], tune_tokens=30, statistics_tokens=30)
    run = toy_run(model=make_model("lstm"))
    chosen, valid = tune(run, modes_of({}, dynamic), VALID, TRAIN)
    assert chosen.dynamic_evaluation is not None and chosen.learning_rate == 0
    windows = list(chosen.dynamic_evaluation.score(TEST, 0.0, 0.0))
    monkeypatch.setattr(chosen.dynamic_evaluation, "score", None)
    for results in (valid, run_modes(run, {}, TEST, chosen)):
        np.testing.assert_array_equal(results["dynamic"].nats, results["carried"].nats)
        # The carried pass counts once in the mixture of all.
        assert results["all"].seconds == results["cache"].seconds
        assert results["all"].settings["learning_rate"] == 0
    nats = np.concatenate([window.nats.numpy() for window in windows])
    np.testing.assert_allclose(results["dynamic"].nats, nats, rtol=1e-6)


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "chosen", "tried"),
    [
        ([5.0, 4.0, 3.0, 2.0, 2.5], (1e-2, 0.1), [0.0, 1e-3, 1e-2, 0.1, 0.2]),
        ([5.0, 4.0, 4.5, 4.0], (1e-3, 0.0), [0.0, 1e-3, 1e-2, 0.1]),
        ([5.0, 6.0], (0.0, 0.0), [0.0, 1e-3]),  # no rate is better than none
        ([5.0, NAN], (0.0, 0.0), [0.0, 1e-3]),
        ([5.0, 5.0], (0.0, 0.0), [0.0, 1e-3]),
    ],
)
def test_the_search_of_learning_rate_and_decay(
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    chosen: tuple[float, float],
    tried: list[float],
) -> None:
    values: list[float] = []

    def score(ids: Any, learning_rate: float, decay: float) -> Iterator[Window]:
        values.append(decay or learning_rate)
        nats = torch.full((len(ids),), losses[len(values) - 1])
        yield Window(torch.zeros(len(ids)), nats, None)

    monkeypatch.setattr(modes, "DynamicEvaluation", lambda *args: SimpleNamespace(score=score))
    config = DynamicConfig(learning_rates=[1e-3, 1e-2], decays=[0.1, 0.2])
    found = modes._tune_dynamic(toy_run(model=unigrams()), VALID, TRAIN, config)
    assert (found.learning_rate, found.decay) == chosen
    assert values == tried


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
def test_the_seconds_of_a_mixture_are_those_of_its_passes(start_id: int) -> None:
    """A model of sentences has no part in the carried pass but the hidden states of the cache."""
    cached = {(20, 0.3): TokenScores(np.ones(3), 1.0)}
    scores = {"carried": TokenScores(np.ones(3), 10.0, cached), "reset": TokenScores(np.ones(3), 2)}
    run = toy_run(model=unigrams(), start_id=start_id)
    results = modes._results(run, {}, scores, TunedModes(caches={"carried": (20, 0.3)}))
    assert results["cache"].seconds == 11
    assert results["all"].seconds == (13 if start_id == BOS_ID else 11)


def test_progress_bars_have_the_name_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    real = token_scores.ProgressBar

    def record(**options: Any) -> Any:
        names.append(options["desc"])
        return real(**options)

    monkeypatch.setattr(token_scores, "ProgressBar", record)
    for start_id in (EOS_ID, BOS_ID):
        modes.score_as_trained(toy_run(model=unigrams(), start_id=start_id), VALID, "ngram")
    assert names == ["ngram", "ngram"]
