"""Sort the hypotheses of n-best lists by their combined score.

Axes: M hypotheses, K models.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from korlm.config import LengthUnit, Normalize
from korlm.evaluation.token_scores import Floats
from korlm.rescoring.features import Features, rank
from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import Hypothesis, NBest, batches_of


@dataclass(frozen=True)
class ScoreWeights:
    """Weights of the combined score; the recognizer's score has weight 1.

    Attributes:
        lm_weight: weight of the models' log-probabilities.
        length_bonus: per unit of length.
        mixture_weights: weights of the models in a log-linear mixture; empty: equal weights.
        length_unit: token, eojeol or char.
        normalize: what log-probabilities are divided by.
    """

    lm_weight: float = 0.5
    length_bonus: float = 0.0
    mixture_weights: Sequence[float] = ()
    length_unit: LengthUnit = LengthUnit.token
    normalize: Normalize = Normalize.none

    def model_weights(self, num_models: int) -> Floats:
        """Return the weight of each model, (K,)."""
        given = self.mixture_weights if num_models > 1 and len(self.mixture_weights) else None
        mixture = np.full(num_models, 1) if given is None else np.asarray(given, dtype=np.float64)
        weights: Floats = self.lm_weight * mixture / np.sum(mixture)
        return weights

    def totals(self, features: Features) -> Floats:
        """Return the combined score of each hypothesis, (M,)."""
        return features.totals(self.model_weights(len(features.log_probs)), self.length_bonus)


@dataclass(frozen=True)
class Rescored:
    """A hypothesis with its combined score.

    Attributes:
        hypothesis: the input.
        total: combined score.
        log_prob: natural log of its probability under the models, weighted.
        length: length in the length unit.
    """

    hypothesis: Hypothesis
    total: float
    log_prob: float
    length: int


RescoredList = tuple[NBest, list[Rescored]]


def features_of(
    batches: Iterable[Sequence[NBest]], scorer: LMScorer, weights: ScoreWeights
) -> Iterator[tuple[Sequence[NBest], Features]]:
    """Yield batches of lists with their features."""
    lists, copy = itertools.tee(batches)
    texts = ([hyp.text for nbest in batch for hyp in nbest.hyps] for batch in copy)
    for batch, scores in zip(lists, scorer.score_all(texts), strict=True):
        yield batch, Features.from_scores(batch, scores, weights.length_unit, weights.normalize)


def reorder(
    batch: Sequence[NBest], features: Features, weights: ScoreWeights
) -> list[RescoredList]:
    """Sort the hypotheses of each list by combined score; ties keep their order."""
    totals = weights.totals(features)
    model_weights = weights.model_weights(len(features.log_probs))
    # With lm_weight=0 all models count the same.
    num_models, weight_sum = len(model_weights), model_weights.sum()
    shares = model_weights / weight_sum if weight_sum else np.full(num_models, 1 / num_models)
    log_probs = shares @ features.log_probs
    rescored = []
    for nbest, order, start in zip(
        batch, rank(totals, features.sizes), features.starts, strict=True
    ):
        hyps = [
            Rescored(
                nbest.hyps[index],
                float(totals[start + index]),
                float(log_probs[start + index]),
                int(features.lengths[start + index]),
            )
            for index in order
        ]
        rescored.append((nbest, hyps))
    return rescored


def rescore(
    lists: Iterable[NBest],
    scorer: LMScorer,
    weights: ScoreWeights = ScoreWeights(),
    batch_size: int = 1000,
) -> Iterator[RescoredList]:
    """Yield rescored lists; memory holds a few batches of ``batch_size`` hypotheses.

        with LMScorer([korlm.load("outputs/runs/DIR")]) as scorer:
            lists = [NBest("utt1", [Hypothesis("나는 간다", -7.1), Hypothesis("나는 간 다", -7.0)])]
            for nbest, hyps in rescore(lists, scorer, ScoreWeights(lm_weight=0.4)):
                print(nbest.utt, hyps[0].hypothesis.text, hyps[0].total)

    The hypotheses of each list are sorted by their combined score.
    """
    for batch, features in features_of(batches_of(lists, batch_size), scorer, weights):
        yield from reorder(batch, features, weights)
