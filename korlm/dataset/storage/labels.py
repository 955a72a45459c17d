"""Labels of a prepared corpus: ``labels/<split>.parquet`` with the column ``label``.

Each line of a split has one, in the order of the token shards; blank lines included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from korlm.corpus.lines import LineBlock

FOLDER = "labels"
_SCHEMA = pa.schema([("label", pa.string())])
_LINES = 100_000  # of a row group


def write_labels(blocks: Iterable[LineBlock], folder: Path) -> None:
    """Write the labels of a corpus.

    Args:
        blocks: the lines of all splits, in corpus order.
        folder: of the files; created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pending: dict[str, list[str]] = {}
    with contextlib.ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}

        def flush(split: str) -> None:
            if split not in writers:
                path = folder / f"{split}.parquet"
                writers[split] = stack.enter_context(pq.ParquetWriter(path, _SCHEMA))
            writers[split].write_table(pa.table({"label": pending[split]}, schema=_SCHEMA))
            pending[split] = []

        for block in blocks:
            labels = pending.setdefault(block.split, [])
            labels += list(block.columns.values())[-1]
            if len(labels) >= _LINES:
                flush(block.split)
        for split in list(pending):
            flush(split)


def read_labels(path: Path) -> list[str]:
    """Read the labels of a split.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    labels: list[str] = pq.read_table(path, schema=_SCHEMA).column("label").to_pylist()
    return labels
