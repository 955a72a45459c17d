"""Rescore a file of n-best lists: tune if requested, rescore, write, report error rates."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from korlm.config import ErrorRate
from korlm.evaluation.token_scores import Floats
from korlm.rescoring.error_rates import NAMES, ErrorTally, count_errors
from korlm.rescoring.features import Features, ScoreWeights, best
from korlm.rescoring.formats.writer import Writer
from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import NBest, NBestLists
from korlm.rescoring.recordings import RecordingNames
from korlm.rescoring.rescore import features_of, reorder
from korlm.rescoring.tuning import tune
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


ScoredBatch = tuple[Sequence[NBest], Features]


def rescore_lists(
    lists: NBestLists,
    scorer: LMScorer,
    write: Writer,
    weights: ScoreWeights,
    references: Mapping[str, str],
    tune_metric: ErrorRate | None = None,
    batch_size: int = 1000,
    recordings: RecordingNames | None = None,
) -> None:
    """Rescore lists and write them; log weights and error rates.

    Args:
        lists: input.
        scorer: scorer of the models.
        write: writes lists (``open_writer``).
        weights: weights of the combined score; initial ones if they are tuned.
        references: utterance -> reference text; empty: errors are not counted.
        tune_metric: tune the weights for the lowest error rate first, which keeps all lists in
            memory; None: do not tune.
        batch_size: hypotheses per batch.
        recordings: how the context of an utterance is found, which keeps all lists in memory; None:
            an utterance has none.

    Raises:
        NbestError: a file has an error, or an utterance no recording.
    """
    mixture, num_hyps = weights.mixture_weights, sum(lists.sizes.values())
    if tune_metric and scorer.linear and len(scorer.runs) > 1 and not len(mixture):
        scorer.fit_mixture_weights(list(references.values()))

    def scored() -> Iterator[ScoredBatch]:
        with ProgressBar(total=num_hyps, desc="rescore", unit="hyp", leave=False) as bar:
            yield from features_of(lists, scorer, weights, batch_size, recordings, bar.update)

    batches: Iterable[ScoredBatch] = scored()
    if tune_metric:
        batches = list(batches)
        weights = tune_weights(batches, references, weights, tune_metric)
        fitted = scorer.mixture_weights if scorer.linear else np.asarray(weights.mixture_weights)
        logger.info("%s", _format_weights(weights, fitted, len(scorer.runs)))
    tally = ErrorTally()
    num_changed = 0
    for batch, features in batches:
        rescored = reorder(batch, features, weights)
        write(rescored)
        num_changed += sum(hyps[0].hypothesis is not nbest.hyps[0] for nbest, hyps in rescored)
        if references:
            chosen = best(weights.totals(features), features.sizes)
            tally.add(*count_errors(batch, references), features.sizes, chosen)
    logger.info(
        "%s hypotheses of %s utterances; %s utterances have another best one",
        *(f"{count:,}" for count in (num_hyps, len(lists.sizes), num_changed)),
    )
    if references:
        logger.info("%s", tally.table())


def tune_weights(
    batches: Sequence[ScoredBatch],
    references: Mapping[str, str],
    initial: ScoreWeights,
    metric: ErrorRate,
) -> ScoreWeights:
    """Return the weights with the fewest errors on these lists, never worse than the initial."""
    features = Features.joined([features for _, features in batches])
    errors = [count_errors(lists, references, [metric])[0][metric] for lists, _ in batches]
    start = initial.model_weights(len(features.log_probs))
    tuned = tune(features, np.concatenate(errors), start, initial.length_bonus)
    lm_weight = float(tuned.weights.sum())
    mixture = (tuned.weights / lm_weight).tolist() if lm_weight else initial.mixture_weights
    logger.info("tuned for the lowest %s", NAMES[metric])
    return dataclasses.replace(
        initial, lm_weight=lm_weight, length_bonus=tuned.length_bonus, mixture_weights=mixture
    )


def _format_weights(weights: ScoreWeights, mixture: Floats, num_models: int) -> str:
    """Format weights as command-line overrides."""
    overrides = f"lm_weight={weights.lm_weight!r} length_bonus={weights.length_bonus!r}"
    if num_models > 1:
        values = ",".join(repr(float(weight)) for weight in mixture)
        overrides += f" 'mixture_weights=[{values}]'"
    return overrides + " (use them with other lists)"
