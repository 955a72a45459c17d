"""N-best lists as numbers: what each hypothesis has to its credit, and what that makes in all.

score + sum_k weight_k ln p_k(text) + bonus * length. Axes: U utterances, M hypotheses of all of
them one behind the other, K models (1 where they are mixed linearly).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from korlm.config import LengthUnit, Normalize
from korlm.rescoring.lm_scorer import Floats, TextScores, normalize_spaces
from korlm.rescoring.nbest import NBest
from korlm.rescoring.prefix_tree import Ints


@dataclass(frozen=True)
class Features:
    """Lists of hypotheses as numbers.

    Attributes:
        scores: (M,), the recogniser's.
        log_probs: (K, M), the models', divided as the settings say.
        lengths: (M,).
        sizes: (U,), hypotheses of each utterance, 1 or more.
    """

    scores: Floats
    log_probs: Floats
    lengths: Ints
    sizes: Ints

    @classmethod
    def of(
        cls, batch: Sequence[NBest], scores: TextScores, length: LengthUnit, normalize: Normalize
    ) -> Features:
        """Of some lists and what the models say of their texts, in the same order."""
        texts = [normalize_spaces(hyp.text) for nbest in batch for hyp in nbest.hyps]
        num_eojeol = np.array([len(text.split()) for text in texts], dtype=np.int64)
        units = {
            LengthUnit.token: scores.num_tokens,
            LengthUnit.eojeol: num_eojeol,
            LengthUnit.char: np.array([len(text) for text in texts], dtype=np.int64),
        }
        divisors = {
            Normalize.none: np.ones(len(texts)),
            Normalize.token: scores.num_tokens,
            Normalize.eojeol: np.maximum(num_eojeol, 1),  # silence has none
        }
        return cls(
            np.array([hyp.score for nbest in batch for hyp in nbest.hyps]),
            scores.log_probs / divisors[normalize],
            units[length],
            np.array([len(nbest.hyps) for nbest in batch], dtype=np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Features]) -> Features:
        """Several batches as one."""
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.log_probs for part in parts], 1),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.sizes for part in parts]),
        )

    @property
    def begins(self) -> Ints:
        """(U,), where the hypotheses of each utterance begin."""
        return np.cumsum(self.sizes) - self.sizes

    def totals(self, weights: Floats, bonus: float) -> Floats:
        """(M,), what each hypothesis has in all; weights (K,)."""
        return self.scores + weights @ self.log_probs + bonus * self.lengths


def orders(totals: Floats, sizes: Ints) -> list[Ints]:
    """For each utterance its hypotheses, the best first; equal ones stay in their order.

    >>> [order.tolist() for order in orders(np.array([1.0, 2.0, 1.0, 0.0]), np.array([3, 1]))]
    [[1, 0, 2], [0]]
    """
    owners = np.repeat(np.arange(len(sizes)), sizes)
    begins = np.cumsum(sizes) - sizes
    sorted_all = np.lexsort((-totals, owners)) - np.repeat(begins, sizes)
    return np.split(sorted_all, begins[1:])


def best(totals: Floats, sizes: Ints) -> Ints:
    """(U,), where the best hypothesis of each utterance stands among all, the first of equals."""
    begins = np.cumsum(sizes) - sizes
    highest = np.maximum.reduceat(totals, begins)
    places = np.where(totals == np.repeat(highest, sizes), np.arange(len(totals)), len(totals))
    found: Ints = np.minimum.reduceat(places, begins)
    return found
