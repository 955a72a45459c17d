"""Convert n-best lists to arrays, and combine the scores of each hypothesis.

    total = score + sum_k weight_k ln p_k(text) + length_bonus * length

Axes: U utterances, M hypotheses of all utterances together, K models, without the recognizer (1 for
a linear mixture).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korlm.config import LengthUnit, Normalize, RescoreSettings
from korlm.evaluation.token_scores import Floats, Ints
from korlm.rescoring.encoded_texts import normalize_spaces
from korlm.rescoring.lm_scorer import TextScores
from korlm.rescoring.nbest import NBest


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

    @classmethod
    def from_settings(cls, settings: RescoreSettings) -> ScoreWeights:
        """Return the weights of the settings; those of a mixture may still be empty."""
        return cls(
            settings.lm_weight,
            settings.length_bonus,
            settings.mixture_weights,
            settings.length_unit,
            settings.normalize,
        )

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
class Features:
    """Scores of the hypotheses of some n-best lists.

    Attributes:
        scores: (M,), of the recognizer.
        log_probs: (K, M), of the models, normalized by length if the settings say so.
        lengths: (M,), in the length unit.
        sizes: (U,), number of hypotheses of each utterance, 1 or more.
    """

    scores: Floats
    log_probs: Floats
    lengths: Ints
    sizes: Ints

    @classmethod
    def from_scores(
        cls, batch: Sequence[NBest], scores: TextScores, weights: ScoreWeights
    ) -> Features:
        """Build the features of some lists from the model scores of their texts."""
        texts = [normalize_spaces(text) for nbest in batch for text in nbest.texts]
        num_eojeol = np.array([len(text.split()) for text in texts], dtype=np.int64)
        lengths = {
            LengthUnit.token: scores.num_tokens,
            LengthUnit.eojeol: num_eojeol,
            LengthUnit.char: np.array([len(text) for text in texts], dtype=np.int64),
        }
        divisors = {
            Normalize.none: np.ones(len(texts)),
            Normalize.token: scores.num_tokens,
            Normalize.eojeol: np.maximum(num_eojeol, 1),  # an empty hypothesis has none
        }
        return cls(
            np.array([hyp.score for nbest in batch for hyp in nbest.hyps]),
            scores.log_probs / divisors[weights.normalize],
            lengths[weights.length_unit],
            np.array([len(nbest.hyps) for nbest in batch], dtype=np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Features]) -> Features:
        """Concatenate the features of several batches."""
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.log_probs for part in parts], 1),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.sizes for part in parts]),
        )

    def split(self) -> list[Features]:
        """Return the features of each utterance."""
        ends = np.cumsum(self.sizes)
        return [
            Features(
                self.scores[begin:end],
                self.log_probs[:, begin:end],
                self.lengths[begin:end],
                np.array([end - begin]),
            )
            for begin, end in zip(ends - self.sizes, ends, strict=True)
        ]

    @property
    def starts(self) -> Ints:
        """Return the index of each utterance's first hypothesis, (U,)."""
        return np.cumsum(self.sizes) - self.sizes

    def totals(self, weights: Floats, length_bonus: float) -> Floats:
        """Return the combined score of each hypothesis, (M,); weights (K,)."""
        weighted = weighted_sum(weights, self.log_probs)
        return self.scores + weighted + length_bonus * self.lengths


def weighted_sum(weights: Floats, rows: Floats) -> Floats:
    """Return the sum of rows, each times its weight: (K,), (K, M) -> (M,).

    Unlike a matrix product, whose order of additions depends on the position and the processor,
    equal columns have equal sums.

    >>> weighted_sum(np.array([1.0, 2.0]), np.array([[1.0, 1.0, 3.0], [2.0, 2.0, 4.0]]))
    array([ 5.,  5., 11.])
    """
    total = np.zeros(rows.shape[1])
    for weight, row in zip(weights, rows, strict=True):
        total += weight * row
    return total


def rank(totals: Floats, sizes: Ints) -> list[Ints]:
    """Sort the hypotheses of each utterance, best first; ties keep their order.

    >>> [order.tolist() for order in rank(np.array([1.0, 2.0, 1.0, 0.0]), np.array([3, 1]))]
    [[1, 0, 2], [0]]
    """
    utterances = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    order = np.lexsort((-totals, utterances)) - np.repeat(starts, sizes)
    return np.split(order, starts[1:])


def best(
    totals: Floats,
    sizes: Ints,
    tie_breakers: Floats | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> Ints:
    """Return the index of each utterance's best hypothesis among all M, (U,).

    Args:
        totals: (M,).
        sizes: (U,), number of hypotheses.
        tie_breakers: (M,), compared if totals are equal. The first of the remaining ties is best.
        mask: (M,), the hypotheses to choose from; None: all.
    """
    starts, utterances = np.cumsum(sizes) - sizes, np.repeat(np.arange(len(sizes)), sizes)
    is_best = np.ones(len(totals), dtype=bool) if mask is None else mask
    for key in (totals,) if tie_breakers is None else (totals, tie_breakers):
        highest = np.maximum.reduceat(np.where(is_best, key, -np.inf), starts)
        is_best = is_best & (key == highest[utterances])
    candidates = np.where(is_best, np.arange(len(totals)), len(totals))
    chosen: Ints = np.minimum.reduceat(candidates, starts)
    return chosen
