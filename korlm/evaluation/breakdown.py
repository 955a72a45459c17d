"""Break the loss down by sentence, document, token frequency and position in the sentence.

Axes: N tokens, S sentences, U units (sentences or documents), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from korlm.dataset.vocab import UNK_ID
from korlm.evaluation.metrics import exp
from korlm.evaluation.texts import EvaluationText
from korlm.evaluation.token_scores import Floats, Ints, segment_sums

Group = dict[str, float]

# Lowest training count of each bin; unknown tokens count as 0.
FREQUENCY_BINS = {
    "0": 0,
    "1": 1,
    "2-9": 2,
    "10-99": 10,
    "100-999": 100,
    "1000-9999": 1000,
    "10000+": 10_000,
}
# First position of each bin, counted from 1.
POSITION_BINS = {str(n): n for n in range(1, 21)} | {"21-30": 21, "31-50": 31, "51+": 51}


@dataclass(frozen=True)
class UnitSums:
    """Sums of each of U units (sentences or documents); all fields (U,).

    Attributes:
        nats: -ln p of all tokens.
        spelling_nats: cost of spelling the tokens that their ids do not restore.
        num_tokens: <eos> included.
        num_unk: number of unknown tokens.
        num_eojeol: number of space-delimited units.
        num_chars: line ends included.
    """

    nats: Floats
    spelling_nats: Floats
    num_tokens: Ints
    num_unk: Ints
    num_eojeol: Ints
    num_chars: Ints

    @property
    def open_nats(self) -> Floats:
        """Return the cost of the text itself: nats and spelling_nats."""
        return self.nats + self.spelling_nats

    @property
    def bits_per_char(self) -> Floats:
        """Return bits per character of each unit."""
        bits: Floats = self.open_nats / math.log(2) / self.num_chars
        return bits

    def grouped(self, groups: Ints, num_groups: int) -> UnitSums:
        """Return the sums of groups of units; ``groups`` (U,) has the group of each unit."""
        sums = {
            name: np.bincount(groups, values, num_groups).astype(values.dtype)
            for name, values in vars(self).items()
        }
        return UnitSums(**sums)


def by_sentence(nats: Floats, text: EvaluationText) -> UnitSums:
    """Return the sums of each sentence; nats is -ln p of the text's tokens, (N,)."""
    return UnitSums(
        segment_sums(nats, text.lengths),
        segment_sums(text.spelling_nats, text.lengths),
        text.lengths,
        segment_sums(text.ids == UNK_ID, text.lengths),
        text.num_eojeol,
        text.num_chars,
    )


def by_frequency(nats: Floats, text: EvaluationText, counts: Sequence[int]) -> dict[str, Group]:
    """Return the loss by training frequency of the token.

    ``nats`` (N,) are -ln p of the tokens, ``counts`` (V,) the occurrences of each id in train.
    """
    train_counts = np.array(counts)
    train_counts[UNK_ID] = 0
    bins = np.searchsorted(list(FREQUENCY_BINS.values()), train_counts, side="right") - 1
    return _grouped(nats, text, bins.astype(np.int8)[text.ids], list(FREQUENCY_BINS))


def by_position(nats: Floats, text: EvaluationText) -> dict[str, Group]:
    """Return the loss by position in the sentence, counted from 1."""
    starts = np.cumsum(text.lengths) - text.lengths
    positions = np.arange(1, len(text.ids) + 1) - np.repeat(starts, text.lengths)
    bins = np.searchsorted(list(POSITION_BINS.values()), positions, side="right") - 1
    return _grouped(nats, text, bins, list(POSITION_BINS))


def _grouped(
    nats: Floats, text: EvaluationText, bins: np.ndarray, names: Sequence[str]
) -> dict[str, Group]:
    """Return the metrics of each bin; ``nats_share`` is of the open nats of the whole text."""
    counts = np.bincount(bins, minlength=len(names))
    sums = np.bincount(bins, nats, len(names))
    spelling = np.bincount(bins, text.spelling_nats, len(names))
    total = float(sums.sum() + spelling.sum())
    groups = {}
    for index, name in enumerate(names):
        num_tokens = int(counts[index])
        group_nats, spelling_nats = float(sums[index]), float(spelling[index])
        loss = group_nats / num_tokens if num_tokens else math.nan
        groups[name] = {
            "num_tokens": num_tokens,
            "token_share": num_tokens / len(nats),
            "nats": group_nats,
            "spelling_nats": spelling_nats,
            "loss": loss,
            "perplexity": exp(loss),
            "nats_share": (
                (group_nats + spelling_nats) / total if math.isfinite(total) else math.nan
            ),
        }
    return groups
