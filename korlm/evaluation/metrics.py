"""Compute the metrics of a language model on a split; README.md in this folder defines them.

``korlm.config.metrics`` lists their names. Metrics of other tasks are in ``korlm.tasks.metrics``.

All ratios are taken once, at the end: perplexity is exp(total nats / total tokens). A mean of batch
means is not the loss if batches differ in length: two full batches and a short easy one gave a
perplexity of 148 where 396 was right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from korlm.utils.io.tables import text_table

if TYPE_CHECKING:
    from korlm.dataset.prepared import SplitStats

MAX_NATS = 700.0  # exp of more overflows float64


@dataclass
class LossSums:
    """Sums over the predicted tokens of a split.

    Attributes:
        nats: sum of -ln p over all tokens.
        unk_nats: sum of -ln p over unknown tokens.
        num_tokens: number of predicted tokens; <eos> counts, <pad> does not.

    >>> LossSums(nats=6.0, num_tokens=2).loss
    3.0
    """

    nats: float = 0.0
    unk_nats: float = 0.0
    num_tokens: int = 0
    num_unk: int = 0
    seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Return nats per token; NaN without tokens."""
        return self.nats / self.num_tokens if self.num_tokens else math.nan

    @property
    def perplexity(self) -> float:
        """Return exp(loss)."""
        return exp(self.loss)


def exp(nats: float) -> float:
    """Return e to the power of nats, infinity where float64 overflows.

    >>> exp(1000.0)
    inf
    """
    return math.exp(nats) if not nats > MAX_NATS else math.inf


def metrics(sums: LossSums, counts: SplitStats, peak_memory_mb: float) -> dict[str, float]:
    """Return the metrics of one split under their names in metrics.json.

    The open-vocabulary metrics (``eojeol_perplexity``, ``bits_per_char``) include the cost of
    spelling every token that its id does not restore, character by character, so that a small
    vocabulary does not look good by mapping words to <unk>.
    """
    known = sums.num_tokens - sums.num_unk
    known_nats = sums.nats - sums.unk_nats
    open_nats = sums.nats + counts.spelling_nats
    return {
        "num_tokens": sums.num_tokens,
        "num_unk": sums.num_unk,
        "num_eojeol": counts.num_eojeol,
        "num_chars": counts.num_chars,
        "loss": sums.loss,
        "perplexity": sums.perplexity,
        "perplexity_known": exp(known_nats / known) if known else math.nan,
        "oov_rate": sums.num_unk / sums.num_tokens,
        "eojeol_perplexity": exp(open_nats / counts.num_eojeol) if counts.num_eojeol else math.nan,
        "bits_per_char": open_nats / math.log(2) / counts.num_chars,
        "tokens_per_second": sums.num_tokens / max(sums.seconds, 1e-9),
        "seconds": sums.seconds,
        "peak_memory_mb": peak_memory_mb,
    }


def table(splits: Mapping[str, Mapping[str, float]]) -> str:
    """Format the metrics of several splits as text: a row per metric, a column per split."""
    keys = next(iter(splits.values()), {})
    cells = [[key, *(_format(row[key]) for row in splits.values())] for key in keys]
    return text_table([["", *splits], *cells])


def _format(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1e7:
        return f"{value:.4g}"
    decimals = 4 if abs(value) < 100 else 2 if abs(value) < 10_000 else 0
    return f"{value:,.{decimals}f}"
