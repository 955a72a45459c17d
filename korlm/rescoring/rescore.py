"""N-best lists in, n-best lists out, the best hypothesis first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from korlm.config import LengthUnit, Normalize
from korlm.rescoring.features import Features, orders
from korlm.rescoring.lm_scorer import Floats, LMScorer
from korlm.rescoring.nbest import Hypothesis, NBest, batches_of


@dataclass(frozen=True)
class ScoreWeights:
    """What counts how much beside the recogniser's score.

    Attributes:
        weight: of the model's log-probability.
        bonus: for each unit of length.
        shares: of the weight, for each model of a log-linear mixture; none: equal ones.
        length: the unit.
        normalize: what the log-probability is divided by.
    """

    weight: float = 0.5
    bonus: float = 0.0
    shares: Sequence[float] = ()
    length: LengthUnit = LengthUnit.token
    normalize: Normalize = Normalize.none

    def weights(self, num_models: int) -> Floats:
        """Of each model, (K,)."""
        shares = self.shares if num_models > 1 and len(self.shares) else np.full(num_models, 1)
        found: Floats = self.weight * np.asarray(shares, dtype=np.float64) / np.sum(shares)
        return found


@dataclass(frozen=True)
class Rescored:
    """A hypothesis in its new place.

    Attributes:
        hypothesis: as it was read.
        total: score + weight * log-probability + bonus * length.
        log_prob: natural log, of the mixture where there are several models.
        length: in the unit of the combination.
    """

    hypothesis: Hypothesis
    total: float
    log_prob: float
    length: int


RescoredList = tuple[NBest, list[Rescored]]


def features_of(
    batches: Iterable[Sequence[NBest]], scorer: LMScorer, combination: ScoreWeights
) -> Iterator[tuple[Sequence[NBest], Features]]:
    """Lists with what their hypotheses have to their credit, batch by batch."""
    mine, copy = itertools.tee(batches)
    texts = ([hyp.text for nbest in batch for hyp in nbest.hyps] for batch in copy)
    for batch, scores in zip(mine, scorer.score_all(texts), strict=True):
        yield batch, Features.of(batch, scores, combination.length, combination.normalize)


def reorder(
    batch: Sequence[NBest], features: Features, combination: ScoreWeights
) -> list[RescoredList]:
    """Each list with its hypotheses in their new order; equal ones stay as they were."""
    weights = combination.weights(len(features.log_probs))
    totals = features.totals(weights, combination.bonus)
    # Without a weight there is nothing to divide by, and each model counts as the others.
    shares = weights / weights.sum() if weights.sum() else np.full(len(weights), 1 / len(weights))
    log_probs = shares @ features.log_probs
    found = []
    for nbest, order, begin in zip(
        batch, orders(totals, features.sizes), features.begins, strict=True
    ):
        rows = [
            Rescored(
                nbest.hyps[at],
                float(totals[begin + at]),
                float(log_probs[begin + at]),
                int(features.lengths[begin + at]),
            )
            for at in order
        ]
        found.append((nbest, rows))
    return found


def rescore(
    lists: Iterable[NBest],
    scorer: LMScorer,
    combination: ScoreWeights = ScoreWeights(),
    batch_size: int = 1000,
) -> Iterator[RescoredList]:
    """Lists in a better order, as they come; memory holds a few batches.

        with Scorer([korlm.load("outputs/runs/DIR")]) as scorer:
            lists = [NBest("utt1", [Hypothesis("나는 간다", -7.1), Hypothesis("나는 간 다", -7.0)])]
            for nbest, hyps in rescore(lists, scorer, Combination(weight=0.4)):
                print(nbest.utt, hyps[0].hypothesis.text, hyps[0].total)

    Args:
        lists: of hypotheses.
        scorer: the models.
        combination: what counts how much.
        batch_size: hypotheses read at once.
    """
    for batch, features in features_of(batches_of(lists, batch_size), scorer, combination):
        yield from reorder(batch, features, combination)
