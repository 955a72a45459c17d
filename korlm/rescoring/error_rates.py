"""Compute error rates of hypotheses against references.

Spacing is often optional in Korean, so characters are counted with and without spaces; words are
eojeols. Errors are summed over a whole test set and divided once.

Axes: U utterances, M hypotheses of all of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from korlm.config import ErrorRate
from korlm.evaluation.token_scores import Ints
from korlm.rescoring.encoded_texts import normalize_spaces
from korlm.rescoring.nbest import NBest
from korlm.utils.io.tables import text_table

NAMES = {
    ErrorRate.cer: "CER",
    ErrorRate.cer_no_blanks: "CER without blanks",
    ErrorRate.wer: "WER (eojeols)",
}
VARIANTS = ("before", "after", "oracle")

Counts = dict[ErrorRate, Ints]


def count_errors(
    batch: Sequence[NBest],
    references: Mapping[str, str],
    rates: Iterable[ErrorRate] = ErrorRate,
) -> tuple[Counts, Counts]:
    """Count the smallest number of substitutions, insertions and deletions of each hypothesis.

    Args:
        batch: U n-best lists.
        references: utterance -> reference text.
        rates: error rates to count for.

    Returns:
        Errors, (M,) for each error rate; lengths of the references, (U,) for each error rate.
    """
    references_of = [normalize_spaces(references[nbest.utt]) for nbest in batch]
    hyps = [normalize_spaces(text) for nbest in batch for text in nbest.texts]
    utterance_of = [n for n, nbest in enumerate(batch) for _ in nbest.hyps]
    errors, lengths = {}, {}
    for rate in rates:
        units = [_units(text, rate) for text in references_of]
        distances = [
            Levenshtein.distance(units[utterance], _units(hyp, rate))
            for utterance, hyp in zip(utterance_of, hyps, strict=True)
        ]
        errors[rate] = np.array(distances, dtype=np.int64)
        lengths[rate] = np.array([len(unit) for unit in units], dtype=np.int64)
    return errors, lengths


def _units(text: str, rate: ErrorRate) -> Sequence[str]:
    """Return the eojeols or the characters of a text, which an error rate counts."""
    if rate is ErrorRate.wer:
        return text.split()
    return text.replace(" ", "") if rate is ErrorRate.cer_no_blanks else text


class ErrorTally:
    """Sums of errors of the first hypotheses before and after rescoring, and of the best ones."""

    def __init__(self) -> None:
        self._errors: Counter[tuple[str, ErrorRate]] = Counter()
        self._lengths: Counter[ErrorRate] = Counter()
        self._num_utterances = self._num_hyps = 0

    def add(self, errors: Counts, lengths: Counts, sizes: Ints, chosen: Ints) -> None:
        """Add some utterances.

        Args:
            errors: (M,) for each error rate.
            lengths: (U,) for each error rate.
            sizes: (U,), number of hypotheses.
            chosen: (U,), index of the best hypothesis after rescoring among all M.
        """
        starts = np.cumsum(sizes) - sizes
        for rate, hyp_errors in errors.items():
            self._errors["before", rate] += int(hyp_errors[starts].sum())
            self._errors["after", rate] += int(hyp_errors[chosen].sum())
            self._errors["oracle", rate] += int(np.minimum.reduceat(hyp_errors, starts).sum())
            self._lengths[rate] += int(lengths[rate].sum())
        self._num_utterances += len(sizes)
        self._num_hyps += int(sizes.sum())

    def rate(self, variant: str, rate: ErrorRate) -> float:
        """Return errors per reference unit; NaN if the references are empty."""
        length = self._lengths[rate]
        return self._errors[variant, rate] / length if length else math.nan

    def table(self) -> str:
        """Format all error rates in percent, one line per variant."""
        size = self._num_hyps / self._num_utterances
        rows = [
            [variant, *(f"{100 * self.rate(variant, rate):.2f} %" for rate in ErrorRate)]
            for variant in VARIANTS
        ]
        title = f"{self._num_utterances:,} utterances, {size:.1f} hypotheses each\n"
        return title + text_table([["", *map(NAMES.__getitem__, ErrorRate)], *rows])
