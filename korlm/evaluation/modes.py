"""Score a text in several evaluation modes: ways to use a trained model.

carried    the state is carried over from sentence to sentence
reset      every sentence starts from the initial state
cache      carried, mixed with a neural cache
dynamic    carried, with dynamic evaluation
<run>      another run alone, in the mode that it was trained in
mix        the model, in the mode that it was trained in, mixed with the other runs
all        the model mixed with cache and dynamic evaluation, if there is one, and the other runs

The cache of ``all`` is that of the dynamic pass if there is one.
``tune`` chooses the hyperparameters on one text, ``run_modes`` applies them to another. Modes share
passes over the text: carried and cache need one, and mixtures need none beyond those of their
parts.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from korlm.config import CacheConfig, DynamicConfig
from korlm.dataset.storage.id_stream import Ids, IdStream
from korlm.dataset.vocab import BOS_ID
from korlm.evaluation.dynamic_evaluation import DynamicEvaluation
from korlm.evaluation.mixture import fit_weights, mix
from korlm.evaluation.neural_cache import CacheSetting, NeuralCache
from korlm.evaluation.token_scores import (
    Floats,
    TokenScores,
    collect_scores,
    score_continuous,
    score_sentences,
)
from korlm.models.neural import NeuralLM
from korlm.runs.trained_run import TrainedRun

RESERVED_NAMES = ("model", "carried", "reset", "cache", "dynamic", "mix", "all")

Scores = Mapping[str, TokenScores]  # by name: of passes over a text, or of the parts of a mixture


@dataclass(frozen=True)
class EvaluationModes:
    """Modes to evaluate beside carried and reset.

    Attributes:
        others: runs of the same vocabulary to mix with, by the names of their modes.
        cache: values to try; no sizes: no cache.
        dynamic: values to try; no rates: no dynamic evaluation.
    """

    others: Mapping[str, TrainedRun]
    cache: CacheConfig
    dynamic: DynamicConfig
    device: torch.device

    def needs_tuning(self, run: TrainedRun) -> bool:
        """Return whether a mode of the run has hyperparameters; an n-gram model alone has none."""
        has_cache = bool(self.cache.sizes) and isinstance(run.model, NeuralLM)
        return bool(self.others) or has_cache or self.has_dynamic(run)

    def has_dynamic(self, run: TrainedRun) -> bool:
        """Return whether dynamic evaluation applies to the run: it has parameters to update."""
        has_parameters = any(parameter.requires_grad for parameter in run.model.parameters())
        return bool(self.dynamic.learning_rates) and has_parameters


@dataclass(frozen=True)
class ModeResult:
    """Scores of a text in one mode.

    Attributes:
        nats: (N,), -ln p of each token.
        seconds: run time; of a mixture that of all passes that it needs.
        settings: hyperparameters that were tuned.
    """

    nats: Floats
    seconds: float
    settings: dict[str, Any]


@dataclass(frozen=True)
class TunedModes:
    """Tuned hyperparameters of the modes.

    The default has none: no cache, no dynamic evaluation, equal mixture weights.

    Attributes:
        caches: (size, flatness) of the cache for the passes "carried" and "dynamic".
        dynamic_evaluation: None: no dynamic evaluation.
        learning_rate: learning rate of dynamic evaluation; 0 if none lowers the loss: the model is
            not adapted.
        decay: decay of dynamic evaluation.
        weights: mixture weights of the modes cache, mix and all.
    """

    caches: Mapping[str, CacheSetting] = field(default_factory=dict)
    dynamic_evaluation: DynamicEvaluation | None = None
    learning_rate: float = 0.0
    decay: float = 0.0
    weights: Mapping[str, Floats] = field(default_factory=dict)


def tune(
    run: TrainedRun, modes: EvaluationModes, valid: Ids, train: Ids | IdStream
) -> tuple[TunedModes, dict[str, ModeResult]]:
    """Choose the hyperparameters of all modes; return them with the results on the tuning text.

    The models must be on ``modes.device``; ``train`` has the ids on which dynamic evaluation
    computes its gradient statistics.
    """
    tuned, others = TunedModes(), modes.others
    if modes.has_dynamic(run):
        tuned = _tune_dynamic(run, valid, train, modes.dynamic)
    settings = list(itertools.product(modes.cache.sizes, modes.cache.flatness))
    scores = _score(run, others, valid, tuned, {"carried": settings, "dynamic": settings})
    caches = {name: _best_cache(part) for name, part in scores.items() if part.cached}
    tuned = dataclasses.replace(tuned, caches=caches)
    mixtures = _mixtures(run, others, scores, tuned)
    weights = {mode: fit_weights(_stacked(parts)) for mode, parts in mixtures.items()}
    tuned = dataclasses.replace(tuned, weights=weights)
    return tuned, _results(run, others, scores, tuned)


def run_modes(
    run: TrainedRun, others: Mapping[str, TrainedRun], ids: Ids, tuned: TunedModes
) -> dict[str, ModeResult]:
    """Return the result of every mode on a text, with hyperparameters that were chosen before."""
    cache_settings = {name: [setting] for name, setting in tuned.caches.items()}
    return _results(run, others, _score(run, others, ids, tuned, cache_settings), tuned)


def score_as_trained(run: TrainedRun, ids: Ids, description: str) -> TokenScores:
    """Score a text in the mode that the run was trained in: carried or reset."""
    if run.start_id == BOS_ID:
        return score_sentences(run.model, ids, run.start_id, description)
    return collect_scores(score_continuous(run.model, ids, run.start_id), len(ids), description)


def _tune_dynamic(
    run: TrainedRun, valid: Ids, train: Ids | IdStream, config: DynamicConfig
) -> TunedModes:
    """Try rising learning rates without decay, then rising decays with the best rate.

    Each search ends at the first value that does not lower the loss. The first learning rate is 0:
    a model that no rate improves is not adapted.
    """
    evaluation = DynamicEvaluation(
        run.model, train, run.start_id, config.segment, config.statistics_tokens
    )
    ids = valid[: config.tune_tokens]

    def loss_of(learning_rate: float, decay: float) -> float:
        description = f"learning rate {learning_rate:g} decay {decay:g}"
        windows = evaluation.score(ids, learning_rate, decay)
        return float(collect_scores(windows, len(ids), description).nats.mean())

    best, best_rate, best_decay = loss_of(0.0, 0.0), 0.0, 0.0
    for learning_rate in config.learning_rates:
        if not (loss := loss_of(learning_rate, 0.0)) < best:  # also stops at NaN
            break
        best, best_rate = loss, learning_rate
    for decay in config.decays if best_rate else ():
        if not (loss := loss_of(best_rate, decay)) < best:
            break
        best, best_decay = loss, decay
    return TunedModes(dynamic_evaluation=evaluation, learning_rate=best_rate, decay=best_decay)


def _score(
    run: TrainedRun,
    others: Mapping[str, TrainedRun],
    ids: Ids,
    tuned: TunedModes,
    cache_settings: Mapping[str, Sequence[CacheSetting]],
) -> Scores:
    """Make all passes over a text; ``cache_settings`` has the settings to look up in each pass."""

    def new_cache(name: str) -> NeuralCache | None:
        settings = cache_settings.get(name)
        is_neural = isinstance(run.model, NeuralLM)
        return NeuralCache(run.model.vocab_size, settings) if settings and is_neural else None

    windows = score_continuous(run.model, ids, run.start_id)
    scores = {
        "carried": collect_scores(windows, len(ids), "carried", new_cache("carried")),
        "reset": score_sentences(run.model, ids, run.start_id, "reset"),
    }
    if tuned.dynamic_evaluation is not None and tuned.learning_rate:
        windows = tuned.dynamic_evaluation.score(ids, tuned.learning_rate, tuned.decay)
        scores["dynamic"] = collect_scores(windows, len(ids), "dynamic", new_cache("dynamic"))
    elif tuned.dynamic_evaluation is not None:  # without updates the pass is the carried one
        scores["dynamic"] = scores["carried"]
    return scores | {name: score_as_trained(other, ids, name) for name, other in others.items()}


def _best_cache(scores: TokenScores) -> CacheSetting:
    """Return the cache setting with the lowest loss, mixed with the pass it belongs to."""

    def mixed_loss(setting: CacheSetting) -> float:
        nats = np.stack([scores.nats, scores.cached[setting].nats])
        return float(mix(nats, fit_weights(nats)).mean())

    return min(scores.cached, key=mixed_loss)


def _mixtures(
    run: TrainedRun, others: Mapping[str, TrainedRun], scores: Scores, tuned: TunedModes
) -> dict[str, Scores]:
    """Return the parts of each mode that is a mixture."""
    cached = {name: scores[name].cached[setting] for name, setting in tuned.caches.items()}
    own = {"model": scores["reset" if run.start_id == BOS_ID else "carried"]}
    other_scores = {name: scores[name] for name in others}
    adapted = {}
    mixtures: dict[str, Scores] = {}
    if "carried" in cached:
        mixtures["cache"] = {"model": scores["carried"], "cache": cached["carried"]}
        adapted["cache"] = cached.get("dynamic", cached["carried"])
    if "dynamic" in scores:
        adapted["dynamic"] = scores["dynamic"]
    if others:
        mixtures["mix"] = own | other_scores
    if adapted:
        mixtures["all"] = own | adapted | other_scores
    return mixtures


def _results(
    run: TrainedRun, others: Mapping[str, TrainedRun], scores: Scores, tuned: TunedModes
) -> dict[str, ModeResult]:
    """Return the result of every mode, mixtures included, in the order of the report."""
    mixtures = _mixtures(run, others, scores, tuned)
    dynamic_settings = {"learning_rate": tuned.learning_rate, "decay": tuned.decay}
    results = {}
    for mode in ("carried", "reset", "cache", "dynamic", *others, "mix", "all"):
        if mode in mixtures:
            results[mode] = _mixed(mode, mixtures[mode], scores, tuned, dynamic_settings)
        elif mode in scores:
            part = scores[mode]
            settings = dynamic_settings if mode == "dynamic" else {}
            results[mode] = ModeResult(part.nats, part.seconds, settings)
    return results


def _mixed(
    mode: str,
    parts: Scores,
    scores: Scores,
    tuned: TunedModes,
    dynamic_settings: Mapping[str, float],
) -> ModeResult:
    """Return the result of a mixture; without tuned weights all parts weigh the same."""
    weights = tuned.weights.get(mode, np.full(len(parts), 1 / len(parts)))
    rounded = (round(float(weight), 4) for weight in weights)
    passes = list(parts.values())
    settings: dict[str, Any] = {"weights": dict(zip(parts, rounded, strict=True))}
    if "cache" in parts:
        cached_pass = "dynamic" if "dynamic" in parts else "carried"
        settings["cache_size"], settings["flatness"] = tuned.caches[cached_pass]
        passes.append(scores[cached_pass])  # the hidden states of the cache are from it
    if "dynamic" in parts:
        settings |= dynamic_settings
    seconds = sum({id(part): part.seconds for part in passes}.values())  # each pass once
    return ModeResult(mix(_stacked(parts), weights), seconds, settings)


def _stacked(parts: Scores) -> Floats:
    return np.stack([part.nats for part in parts.values()])
