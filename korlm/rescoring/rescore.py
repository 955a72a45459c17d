"""Sort the hypotheses of n-best lists by their combined score.

Axes: M hypotheses, K models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from korlm.rescoring.encoded_texts import EncodedTexts, encode_ahead
from korlm.rescoring.features import Features, ScoreWeights, rank
from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import Hypothesis, NBest, batches_of
from korlm.rescoring.recordings import RecordingNames, features_in_context


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
    lists: Iterable[NBest],
    scorer: LMScorer,
    weights: ScoreWeights,
    batch_size: int = 1000,
    recordings: RecordingNames | None = None,
    on_scored: Callable[[int], object] | None = None,
) -> Iterator[tuple[Sequence[NBest], Features]]:
    """Yield all lists in their order, in batches with their features.

    Args:
        lists: n-best lists.
        scorer: scorer of the models.
        weights: weights of the combined score.
        batch_size: hypotheses that are scored together, or one list if it has more.
        recordings: how the recording of an utterance is found, in which its context are the chosen
            hypotheses before it; all lists are kept in memory. None: no context.
        on_scored: called with the number of hypotheses after each batch.

    Raises:
        NbestError: the recording of an utterance cannot be found.
    """

    def encode(batch: list[NBest]) -> EncodedTexts:
        return scorer.encode([[text for nbest in batch for text in nbest.texts]])

    on_scored = on_scored or (lambda number: None)
    if recordings is None:
        for batch, texts in encode_ahead(encode, batches_of(lists, batch_size)):
            yield batch, Features.from_scores(batch, scorer.score_encoded(texts), weights)
            on_scored(len(texts.indices))
        return
    read, by_index = list(lists), dict[int, Features]()
    for index, features in features_in_context(read, recordings, scorer, weights, batch_size):
        by_index[index] = features
        on_scored(len(features.scores))
    for index, nbest in enumerate(read):
        yield [nbest], by_index[index]


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
    weights: ScoreWeights = ScoreWeights(),  # noqa: B008 - frozen
    batch_size: int = 1000,
    recordings: RecordingNames | None = None,
) -> Iterator[RescoredList]:
    """Yield rescored lists, each sorted by the combined score; see ``features_of``.

        scorer = LMScorer([korlm.load("outputs/runs/DIR")])
        lists = [NBest("utt1", [Hypothesis("나는 간다", -7.1), Hypothesis("나는 간 다", -7.0)])]
        for nbest, hyps in rescore(lists, scorer, ScoreWeights(lm_weight=0.4)):
            print(nbest.utt, hyps[0].hypothesis.text, hyps[0].total)

    Without ``recordings``, memory holds a few batches of ``batch_size`` hypotheses.
    """
    for batch, features in features_of(lists, scorer, weights, batch_size, recordings):
        yield from reorder(batch, features, weights)
