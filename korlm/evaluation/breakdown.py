"""Where a text costs what: sums by document, by frequency in training, by place in the sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korlm.dataset.vocab import UNK_ID
from korlm.evaluation.metrics import exp
from korlm.evaluation.texts import EvaluationText, Floats, Ints
from korlm.evaluation.token_scores import Nats

Places = npt.NDArray[np.int8]
Group = dict[str, float]

# A band's least count in train; unknown tokens have none.
FREQUENCY_BINS = {
    "0": 0,
    "1": 1,
    "2-9": 2,
    "10-99": 10,
    "100-999": 100,
    "1000-9999": 1000,
    "10000+": 10_000,
}
# The first place of each group, counted from 1.
POSITIONS = {str(place): place for place in range(1, 21)} | {"21-30": 21, "31-50": 31, "51+": 51}


@dataclass(frozen=True)
class Sums:
    """What each of U units (sentences, documents) costs and holds; all fields (U,).

    Attributes:
        nats: of all its tokens.
        spelling_nats: for spelling what ids do not give back.
        num_tokens: <eos> included.
        num_unk: unknown ones among them.
        num_eojeol: units between blanks.
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
        """What the text itself costs, with all that it takes to spell it."""
        return self.nats + self.spelling_nats

    @property
    def bits_per_char(self) -> Floats:
        """Of each unit."""
        bits: Floats = self.open_nats / math.log(2) / self.num_chars
        return bits

    def grouped(self, groups: Ints, num_groups: int) -> Sums:
        """The sums of units that belong together; ``groups`` (U,) says which do."""

        def summed(values: Floats | Ints) -> Floats:
            return np.bincount(groups, weights=values, minlength=num_groups).astype(np.float64)

        def counted(values: Ints) -> Ints:
            return np.rint(summed(values)).astype(np.int64)

        return Sums(
            summed(self.nats),
            summed(self.spelling_nats),
            counted(self.num_tokens),
            counted(self.num_unk),
            counted(self.num_eojeol),
            counted(self.num_chars),
        )


def by_sentence(nats: Nats, text: EvaluationText) -> Sums:
    """What each sentence costs.

    Args:
        nats: (N,), of the text's tokens.
        text: S sentences.
    """
    starts = text.starts
    return Sums(
        np.add.reduceat(nats, starts),
        np.add.reduceat(text.spelling_nats, starts),
        text.lengths,
        np.add.reduceat((text.ids == UNK_ID).astype(np.int64), starts),
        text.num_eojeol,
        text.num_chars,
    )


def by_frequency(nats: Nats, text: EvaluationText, counts: Sequence[int]) -> dict[str, Group]:
    """What tokens cost that stand in train so often.

    Args:
        nats: (N,), of the text's tokens.
        text: their ids.
        counts: (V,), of each id in train.
    """
    known = np.array(counts)
    known[UNK_ID] = 0
    bands = (np.searchsorted(list(FREQUENCY_BINS.values()), known, side="right") - 1).astype(
        np.int8
    )
    return _groups(nats, text, bands[text.ids], list(FREQUENCY_BINS))


def by_position(nats: Nats, text: EvaluationText) -> dict[str, Group]:
    """What tokens cost at each place of their sentence, the first being 1."""
    places = np.arange(1, len(text.ids) + 1) - np.repeat(text.starts, text.lengths)
    groups = np.searchsorted(list(POSITIONS.values()), places, side="right") - 1
    return _groups(nats, text, groups.astype(np.int8), list(POSITIONS))


def _groups(
    nats: Nats, text: EvaluationText, groups: Places, names: Sequence[str]
) -> dict[str, Group]:
    """The sums of each group; ``nats_share`` is of all that the text costs, spelling included."""
    num_tokens = np.bincount(groups, minlength=len(names))
    sums = np.bincount(groups, nats, len(names))
    spelling = np.bincount(groups, text.spelling_nats, len(names))
    whole = float(sums.sum() + spelling.sum())
    found = {}
    for at, name in enumerate(names):
        count, cost, spelt = int(num_tokens[at]), float(sums[at]), float(spelling[at])
        loss = cost / count if count else math.nan
        found[name] = {
            "num_tokens": count,
            "token_share": count / len(nats),
            "nats": cost,
            "spelling_nats": spelt,
            "loss": loss,
            "perplexity": exp(loss),
            "nats_share": (cost + spelt) / whole if math.isfinite(whole) else math.nan,
        }
    return found
