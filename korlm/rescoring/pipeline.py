"""What the command does with lists and models: tune if asked, reorder, write, count errors."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from korlm.config import ErrorRate
from korlm.rescoring.error_rates import NAMES, Counts, ErrorTally, count_errors
from korlm.rescoring.features import Features, best
from korlm.rescoring.formats.writer import Writer
from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import Lists, NBest, batches_of
from korlm.rescoring.rescore import ScoreWeights, features_of, reorder
from korlm.rescoring.tuning import tune
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HypothesisBatch:
    """Some lists, what speaks for their hypotheses, and what is wrong with them.

    Attributes:
        lists: U utterances, M hypotheses.
        features: of all hypotheses.
        errors: (M,) of each kind; empty without references.
        lengths: (U,), of the references, of each kind.
    """

    lists: Sequence[NBest]
    features: Features
    errors: Counts
    lengths: Counts


@dataclass(frozen=True)
class RescoringJob:
    """What is to be done.

    Attributes:
        combination: what counts how much, to begin with.
        target: the error rate that tuning makes small.
        batch_size: hypotheses read at once.
        references: utterance -> what was said; none: errors are not counted.
        num_hyps: in all lists, for the progress bar.
    """

    combination: ScoreWeights
    target: ErrorRate
    batch_size: int
    references: Mapping[str, str]
    num_hyps: int


def rescore_lists(
    lists: Lists, scorer: LMScorer, job: RescoringJob, target: Writer, tuning: bool
) -> None:
    """Reads lists, writes them in their new order, tells error rates and weights.

    Args:
        lists: to read.
        scorer: the models.
        job: what is to be done.
        target: to write to.
        tuning: find shares, weight and bonus first; then all lists are kept in memory.
    """
    combination = job.combination
    if tuning and scorer.linear and len(scorer.runs) > 1 and not len(combination.shares):
        scorer.fit_mixture_weights(list(job.references.values()))
    batches: Iterable[HypothesisBatch] = _read(lists, scorer, job)
    if tuning:
        batches = list(batches)
        combination = find_weights(batches, job)
        shares = scorer.shares if scorer.linear else np.asarray(combination.shares)
        logger.info("%s", _told(combination, shares, len(scorer.runs)))
    tally = ErrorTally()
    num_utterances = num_changed = 0
    for batch in batches:
        features = batch.features
        found = reorder(batch.lists, features, combination)
        target.write(found)
        num_utterances += len(found)
        num_changed += sum(hyps[0].hypothesis is not nbest.hyps[0] for nbest, hyps in found)
        if job.references:
            totals = features.totals(
                combination.weights(len(features.log_probs)), combination.bonus
            )
            chosen = best(totals, features.sizes)
            tally.add(batch.errors, batch.lengths, features.sizes, chosen)
    logger.info(
        "%s hypotheses of %s utterances; %s utterances have another best one",
        *(f"{count:,}" for count in (job.num_hyps, num_utterances, num_changed)),
    )
    if job.references:
        logger.info("%s", tally.table())


def find_weights(batches: Sequence[HypothesisBatch], job: RescoringJob) -> ScoreWeights:
    """The combination with the fewest errors on these lists, never more than the one given."""
    features = Features.joined([batch.features for batch in batches])
    errors = np.concatenate([batch.errors[job.target] for batch in batches])
    start = job.combination.weights(len(features.log_probs))
    found = tune(features, errors, start, job.combination.bonus)
    weight = float(found.weights.sum())
    shares = (found.weights / weight).tolist() if weight else job.combination.shares
    logger.info("tuned for the lowest %s", NAMES[job.target])
    return dataclasses.replace(job.combination, weight=weight, bonus=found.bonus, shares=shares)


def _told(combination: ScoreWeights, shares: np.ndarray, num_models: int) -> str:
    """The weights as a user gives them to another command."""
    told = f"lm_weight={combination.weight!r} length_bonus={combination.bonus!r}"
    if num_models > 1:
        told += f" 'mixture_weights=[{','.join(repr(float(share)) for share in shares)}]'"
    return told + " (give them with other lists)"


def _read(lists: Lists, scorer: LMScorer, job: RescoringJob) -> Iterator[HypothesisBatch]:
    """All lists, batch by batch, with a progress bar."""
    batches = features_of(batches_of(lists, job.batch_size), scorer, job.combination)
    with ProgressBar(total=job.num_hyps, desc="rescore", unit="hyp", leave=False) as bar:
        for part, features in batches:
            counted = count_errors(part, job.references) if job.references else ({}, {})
            yield HypothesisBatch(part, features, *counted)
            bar.update(len(features.scores))
