"""Report of tokenization: the lines with a status other than ok and empty, or dropped characters.

``report.tsv`` has the columns doc_id, line, status, seconds (0: not measured), dropped (characters
that are part of no token) and text (its first 200 characters), in corpus order within each split.
Cells are escaped by ``korlm.utils.io.tables.tsv_cell``. The rows of each piece of the corpus are
also in a file of its own, ``reports/<split>-<number>.jsonl``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config.metrics import SPLITS
from korlm.dataset.storage.shards import in_piece_order
from korlm.tokenizers.analysis import NORMAL_STATUSES
from korlm.utils.io.tables import tsv_row

COLUMNS = ("doc_id", "line", "status", "seconds", "dropped", "text")
TEXT_CHARS = 200
_NORMAL = pa.array(NORMAL_STATUSES, pa.string())


def report_rows(table: pa.Table, seconds: pa.Array, dropped: pa.Array) -> list[str]:
    """Return the rows of the report for some lines, each as JSON.

    Args:
        table: the lines, with the columns of ``korlm.dataset.storage.shards.SCHEMA``.
        seconds: time of each line.
        dropped: characters of each line that are part of no token.
    """
    is_normal = pc.is_in(table.column("status"), value_set=_NORMAL)
    is_reported = pc.or_(pc.invert(is_normal), pc.greater(dropped, 0))
    index = pa.array(np.flatnonzero(is_reported.to_numpy(zero_copy_only=False)))
    if not len(index):
        return []
    columns = [table.column(name).take(index).to_pylist() for name in ("doc_id", "line", "status")]
    columns.append([round(s, 3) for s in seconds.take(index).to_pylist()])
    columns.append(dropped.take(index).to_pylist())
    columns.append([text[:TEXT_CHARS] for text in table.column("text").take(index).to_pylist()])
    return [json.dumps(row) for row in zip(*columns, strict=True)]


def write_report(folder: Path, target: Path) -> None:
    """Write report.tsv from the rows of all pieces, ``<split>-<number>.jsonl`` in a folder."""
    with open(target, "w", encoding="utf-8", newline="\n") as file:
        file.write(tsv_row(COLUMNS))
        for split in SPLITS:
            for path in in_piece_order(folder.glob(f"{split}-*.jsonl")):
                rows = path.read_text(encoding="ascii").splitlines()
                file.writelines(tsv_row(json.loads(row)) for row in rows)


def summary(status: Mapping[str, int]) -> str:
    """Return the number of lines of each kind of status, for messages.

    >>> summary({"ok": 1200, "fallback: too slow": 1, "fallback: JException": 2})
    '1,200 ok, 3 fallback'
    """
    kinds: Counter[str] = Counter()
    for name, count in status.items():
        kinds[name.split(":")[0]] += count
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
