"""Figures of merit: add sums, divide once.

Perplexity is exp(total nats / total tokens). A mean of batch means is not the loss as soon as
batches differ in length: two full batches and a short easy one gave 148 where 396 was right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

MAX_NATS = 700.0  # exp of more is no float64


class SplitCounts(Protocol):
    """Counts of a split that do not depend on the model."""

    @property
    def num_eojeol(self) -> int:
        """Units between blanks."""

    @property
    def num_chars(self) -> int:
        """Characters, one for each line end included."""

    @property
    def spelling_nats(self) -> float:
        """What it costs to spell the tokens that their ids do not give back."""


@dataclass
class LossSums:
    """Sums over predicted tokens; ``+`` merges those of two passes, or of two processes.

    Attributes:
        nats: sum of -ln p over all tokens.
        unk_nats: the part of it that unknown tokens cost.
        num_tokens: predicted tokens; <eos> counts, <pad> does not.
        num_unk: unknown ones among them.
        seconds: what the pass took.

    >>> both = LossSums(nats=6.0, num_tokens=2) + LossSums(nats=2.0, num_tokens=6)
    >>> both.loss  # not the mean of 3 and 1/3
    1.0
    """

    nats: float = 0.0
    unk_nats: float = 0.0
    num_tokens: int = 0
    num_unk: int = 0
    seconds: float = 0.0

    def __add__(self, other: LossSums) -> LossSums:
        return LossSums(
            self.nats + other.nats,
            self.unk_nats + other.unk_nats,
            self.num_tokens + other.num_tokens,
            self.num_unk + other.num_unk,
            self.seconds + other.seconds,
        )

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.num_tokens if self.num_tokens else math.nan

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return exp(self.loss)


def exp(nats: float) -> float:
    """E to the power of nats; infinite where a float ends.

    >>> exp(1000.0)
    inf
    """
    return math.exp(nats) if not nats > MAX_NATS else math.inf


def metrics(tally: LossSums, counts: SplitCounts, peak_memory_mb: float) -> dict[str, float]:
    """The figures of metrics.json for one split.

    The open-vocabulary figures add what it costs to spell, character by character, each token that
    its id does not give back: a small vocabulary cannot look good by hiding words behind <unk>.

    Args:
        tally: of a pass over the whole split.
        counts: of that split.
        peak_memory_mb: of the pass.
    """
    known = tally.num_tokens - tally.num_unk
    known_nats = tally.nats - tally.unk_nats
    open_nats = tally.nats + counts.spelling_nats
    return {
        "num_tokens": tally.num_tokens,
        "num_unk": tally.num_unk,
        "num_eojeol": counts.num_eojeol,
        "num_chars": counts.num_chars,
        "loss": tally.loss,
        "perplexity": tally.perplexity,
        "perplexity_known": exp(known_nats / known) if known else math.nan,
        "oov_rate": tally.num_unk / tally.num_tokens,
        "eojeol_perplexity": exp(open_nats / counts.num_eojeol) if counts.num_eojeol else math.nan,
        "bits_per_char": open_nats / math.log(2) / counts.num_chars,
        "tokens_per_second": tally.num_tokens / max(tally.seconds, 1e-9),
        "seconds": tally.seconds,
        "peak_memory_mb": peak_memory_mb,
    }


def table(splits: Mapping[str, Mapping[str, float]]) -> str:
    """Splits side by side as text, a row for each figure."""
    names = list(splits)
    lines = [f"{'':20}" + "".join(f"{name:>14}" for name in names)]
    for key in next(iter(splits.values()), {}):
        cells = []
        for name in names:
            value = splits[name][key]
            if isinstance(value, int):
                cells.append(f"{value:>14,}")
            elif abs(value) >= 1e7:
                cells.append(f"{value:>14.4g}")
            else:
                places = 4 if abs(value) < 100 else 2 if abs(value) < 10_000 else 0
                cells.append(f"{value:>14,.{places}f}")
        lines.append(f"{key:20}" + "".join(cells))
    return "\n".join(lines)
