"""The ways to use a trained model, compared on the same tokens.

carried    the state goes on from sentence to sentence
reset      each sentence is read by itself
cache      carried, mixed with a neural cache
dynamic    carried, learning on the way
<run>      another run alone, read as it was trained
mix        the model, read as it was trained, mixed with the other runs
all        everything above together

A handful of numbers (theta, rates, weights of mixtures) is chosen on the first split that is read,
and kept for the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from korlm.config import CacheConfig, DynamicConfig
from korlm.dataset.vocab import BOS_ID
from korlm.evaluation.dynamic_evaluation import DynamicEvaluation
from korlm.evaluation.mixture import Weights, fit_weights, mix
from korlm.evaluation.neural_cache import CacheSetting, NeuralCache
from korlm.evaluation.token_scores import (
    Nats,
    TokenScores,
    TokenStream,
    score,
    score_continuous,
    score_sentences,
)
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM

ROWS = ("model", "carried", "reset", "cache", "dynamic", "mix", "all")  # names of no other run


@dataclass(frozen=True)
class EvaluatedModel:
    """A model and the texts as it reads them.

    Attributes:
        name: of its row.
        model: in evaluation mode, on the texts' device.
        texts: the splits.
    """

    name: str
    model: LanguageModel
    texts: Mapping[str, TokenStream]

    def as_trained(self, split: str) -> TokenScores:
        """What a split costs, read in the way that the model was trained in."""
        text = self.texts[split]
        if text.start_id == BOS_ID:
            return score_sentences(self.model, text)
        return score(score_continuous(self.model, text), len(text), self.name)


@dataclass(frozen=True)
class ModeResult:
    """One way to use the model.

    Attributes:
        nats: (N,) of the split.
        seconds: that its parts took.
        settings: what was chosen for it.
    """

    nats: Nats
    seconds: float
    settings: dict[str, Any]


class Comparison:
    """All ways, and what was chosen for each.

    Args:
        reader: the model; its texts hold train beside the splits to be judged.
        others: the models to mix with.
        cache: what may be chosen.
        dynamic: what may be chosen.
        tune: whether there is a text to choose on; without one models are mixed in equal shares,
            and there is neither cache nor dynamic evaluation.
    """

    def __init__(
        self,
        reader: EvaluatedModel,
        others: Sequence[EvaluatedModel],
        cache: CacheConfig,
        dynamic: DynamicConfig,
        tune: bool = True,
    ) -> None:
        assert tune or not (cache.sizes or dynamic.learning_rates)
        self._tune = tune
        self._reader, self._others = reader, others
        self._cache, self._dynamic = cache, dynamic
        self._adapting: DynamicEvaluation | None = None
        self._rate, self._decay = 0.0, 0.0
        self._caches: dict[str, CacheSetting] = {}
        self._weights: dict[str, Weights] = {}

    def rows(self, split: str) -> dict[str, ModeResult]:
        """Every way that this model can go, on the same tokens; the first split is tuned on."""
        reader, text = self._reader, self._reader.texts[split]
        rows: dict[str, ModeResult] = {}
        carried = score(
            score_continuous(reader.model, text), len(text), "carried", self._new_cache("carried")
        )
        reset = score_sentences(reader.model, text)
        rows["carried"] = ModeResult(carried.nats, carried.seconds, {})
        rows["reset"] = ModeResult(reset.nats, reset.seconds, {})
        own = reset if text.start_id == BOS_ID else carried
        parts = {"model": own}
        if carried.cached:
            cached = self._best_cache("carried", carried)
            rows["cache"] = self._mixed("cache", {"model": carried, "cache": cached})
            parts["cache"] = cached
        if dynamic := self._read_dynamic(split):
            rows["dynamic"] = ModeResult(
                dynamic.nats, dynamic.seconds, {"rate": self._rate, "decay": self._decay}
            )
            parts["dynamic"] = dynamic
            if dynamic.cached:
                parts["cache"] = self._best_cache("dynamic", dynamic)
        others = {other.name: other.as_trained(split) for other in self._others}
        for name, found in others.items():
            rows[name] = ModeResult(found.nats, found.seconds, {})
        if others:
            rows["mix"] = self._mixed("mix", {"model": own, **others})
        if parts.keys() > {"model"}:
            rows["all"] = self._mixed("all", {**parts, **others})
        return rows

    def _new_cache(self, row: str) -> NeuralCache | None:
        """An empty cache with all settings to try, or with the one that was chosen."""
        if not self._cache.sizes or not isinstance(self._reader.model, NeuralLM):
            return None
        settings = list(itertools.product(self._cache.sizes, self._cache.flatness))
        if row in self._caches:
            settings = [self._caches[row]]
        return NeuralCache(self._reader.model.vocab_size, settings)

    def _best_cache(self, row: str, found: TokenScores) -> TokenScores:
        """What the text costs under the cache that helps most."""
        if row not in self._caches:

            def mixed_loss(setting: CacheSetting) -> float:
                nats = np.stack([found.nats, found.cached[setting].nats])
                return float(mix(nats, fit_weights(nats)).mean())

            self._caches[row] = min(found.cached, key=mixed_loss)
        return found.cached[self._caches[row]]

    def _mixed(self, row: str, parts: Mapping[str, TokenScores]) -> ModeResult:
        """The mixture of several scores."""
        nats = np.stack([part.nats for part in parts.values()])
        if row not in self._weights:
            equal = np.full(len(nats), 1 / len(nats))
            self._weights[row] = fit_weights(nats) if self._tune else equal
        weights = self._weights[row]
        settings: dict[str, Any] = {
            "weights": dict(zip(parts, (round(float(w), 4) for w in weights), strict=True))
        }
        if "cache" in parts:
            chosen = self._caches["dynamic" if "dynamic" in parts else "carried"]
            settings["cache_size"], settings["theta"] = chosen
        if "dynamic" in parts:
            settings |= {"rate": self._rate, "decay": self._decay}
        return ModeResult(
            mix(nats, weights), sum(part.seconds for part in parts.values()), settings
        )

    def _read_dynamic(self, split: str) -> TokenScores | None:
        """Dynamic evaluation, tuned at the first time; None if the model cannot learn."""
        reader, config = self._reader, self._dynamic
        if not config.learning_rates or not any(p.requires_grad for p in reader.model.parameters()):
            return None
        text = reader.texts[split]
        if self._adapting is None:
            self._adapting = DynamicEvaluation(
                reader.model, reader.texts["train"], config.segment, config.statistics_tokens
            )
            self._tune_dynamic(self._adapting, text)
        windows = self._adapting.read(text, self._rate, self._decay)
        return score(windows, len(text), "dynamic", self._new_cache("dynamic"))

    def _tune_dynamic(self, adapting: DynamicEvaluation, text: TokenStream) -> None:
        """Rates without decay and then decays, each upwards until it gets worse."""
        tokens = min(self._dynamic.tune_tokens, len(text))

        def loss(rate: float, decay: float) -> float:
            windows = adapting.read(text, rate, decay, tokens)
            return float(score(windows, tokens, f"rate {rate:g} decay {decay:g}").nats.mean())

        best = math.inf
        for rate in self._dynamic.learning_rates:
            if not (found := loss(rate, 0.0)) < best:  # not a number, where the model blew up
                break
            self._rate, best = rate, found
        for decay in self._dynamic.decays:
            if not (found := loss(self._rate, decay)) < best:
                break
            self._decay, best = decay, found
