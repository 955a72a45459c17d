r"""The report of a prepared corpus: every line that did not go plainly through the tokenizer.

That is, whose status is neither ok nor empty, or some of whose characters stand in no token.

``report.tsv`` has the columns doc_id, line, status, seconds (0: not measured), dropped (characters
that stand in no token) and text (its first 200 characters), in the order of the corpus within each
split. Backslash, tab and line ends are written ``\\``, ``\t``, ``\n`` and ``\r``, other control
characters ``\x..``. Each shard leaves its rows in a side file, which survives a broken-off run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config.objective import SPLITS
from korlm.tokenizers.analysis import NORMAL_STATUSES
from korlm.utils.io.atomic_files import fsync_file
from korlm.utils.io.tables import tsv_cell

COLUMNS = ("doc_id", "line", "status", "seconds", "dropped", "text")


TEXT_CHARS = 200


_PLAIN = pa.array(NORMAL_STATUSES, pa.string())


def report_rows(table: pa.Table, seconds: pa.Array, dropped: pa.Array) -> list[str]:
    """The rows of a row group that belong to the report, each as JSON."""
    plain = pc.is_in(table.column("status"), value_set=_PLAIN)
    odd = pc.or_(pc.invert(plain), pc.greater(dropped, 0))
    at = pa.array(np.flatnonzero(odd.to_numpy(zero_copy_only=False)))
    if not len(at):
        return []
    columns = [table.column(name).take(at).to_pylist() for name in ("doc_id", "line", "status")]
    columns += [[round(s, 3) for s in seconds.take(at).to_pylist()], dropped.take(at).to_pylist()]
    columns.append([text[:TEXT_CHARS] for text in table.column("text").take(at).to_pylist()])
    return [json.dumps(row) for row in zip(*columns, strict=True)]


def write_rows(shard: Path, rows: Sequence[str]) -> None:
    """Writes the side file of a shard; none if there is nothing to tell."""
    path = shard_report_path(shard)
    if rows:
        path.write_text("\n".join(rows) + "\n", encoding="ascii")
        fsync_file(path)
    else:
        path.unlink(missing_ok=True)


def shard_report_path(shard: Path) -> Path:
    """Where the rows of a shard lie, if it has any."""
    return shard.with_suffix(".report.jsonl")


def write_report(tokens: Path, target: Path) -> None:
    """Puts the side files of all shards together."""
    with open(target, "w", encoding="utf-8", newline="\n") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for split in SPLITS:
            for path in sorted(tokens.glob(f"{split}-*.report.jsonl")):
                with open(path, encoding="ascii") as rows:
                    for row in rows:
                        file.write("\t".join(map(tsv_cell, json.loads(row))) + "\n")


def summary(status: Mapping[str, int]) -> str:
    """How many lines went how, by the kind of their status.

    >>> summary({"ok": 1200, "fallback: too slow": 1, "fallback: JException": 2})
    '1,200 ok, 3 fallback'
    """
    kinds: Counter[str] = Counter()
    for told, count in status.items():
        kinds[told.split(":")[0]] += count
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
