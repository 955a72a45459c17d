"""The comparison as a table and as the figures of metrics.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from korlm.data.batches import Ids
from korlm.data.vocab import UNK_ID
from korlm.evaluation.comparison import Row
from korlm.metrics import SplitCounts, Tally, metrics, peak_memory_mb

Figures = dict[str, Any]


def figures_of(row: Row, ids: Ids, counts: SplitCounts) -> Figures:
    """The figures of metrics.json for one way to use the model, and what was chosen for it.

    The ways share passes over the text: the peak of memory is that of all of them.
    """
    unknown = ids[:] == UNK_ID
    unk_nats = float(row.nats[unknown].sum())
    tally = Tally(float(row.nats.sum()), unk_nats, len(row.nats), int(unknown.sum()), row.seconds)
    return {**metrics(tally, counts, peak_memory_mb()), "settings": row.settings}


def comparison_table(rows: Mapping[str, Figures]) -> str:
    """A line for each way, the change in perplexity counted from the first of them."""
    width = max(map(len, rows))
    first = next(iter(rows.values()))["perplexity"]
    lines = [
        f"{'':{width}}  perplexity  change    loss  bits/char  tokens/s  settings chosen on valid"
    ]
    for name, row in rows.items():
        change = 100 * (row["perplexity"] / first - 1) if math.isfinite(first) else math.nan
        lines.append(
            f"{name:{width}}  {row['perplexity']:10,.2f} {change:+6.1f} % {row['loss']:7.4f} "
            f"{row['bits_per_char']:10.4f} {row['tokens_per_second']:9,.0f}  "
            + _told(row["settings"])
        )
    return "\n".join(line.rstrip() for line in lines)


def _told(settings: Mapping[str, Any]) -> str:
    """``{"theta": 0.4, "weights": {"model": 0.7, "cache": 0.3}}`` in one line."""
    words = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words.append(" + ".join(f"{weight:.3g} {part}" for part, weight in value.items()))
        else:
            words.append(f"{key}={value:g}")
    return ", ".join(words)
