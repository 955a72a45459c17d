"""A reading of a text as the figures of metrics.json."""

from __future__ import annotations

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
