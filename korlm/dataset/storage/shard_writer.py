"""Writes analyzed lines as token shards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from korlm.dataset.statistics.tokenization_report import report_rows, write_rows
from korlm.dataset.storage.shards import (
    SCHEMA,
    ShardCounts,
    open_parquet_writer,
    shard_path,
    write_counts,
)
from korlm.dataset.text_batches import TextBatch
from korlm.text.eojeol import count_units
from korlm.utils.io.atomic_files import fsync_file

ROW_GROUP_CHARS = 250_000  # characters of text in a row group, which is read and encoded at once
_EMPTY = pa.scalar("empty", pa.string())


@dataclass
class _OpenShard:
    """An unfinished shard: the batches of its next row group, and totals of those before."""

    path: Path
    batches: list[TextBatch] = field(default_factory=list)
    columns: list[pa.RecordBatch] = field(default_factory=list)
    num_chars: int = 0
    counts: ShardCounts = field(default_factory=ShardCounts)
    report: list[str] = field(default_factory=list)
    file: pq.ParquetWriter | None = None

    @property
    def temporary(self) -> Path:
        return self.path.with_suffix(".tmp")

    def take_row_group(self) -> pa.Table:
        """Return the pending batches as one table and add them to the totals."""
        table = to_table(self.batches, self.columns)
        self.counts.add(_count(self.batches, self.columns, table))
        analyses = pa.Table.from_batches(self.columns)
        self.report += report_rows(table, analyses["seconds"], analyses["dropped"])
        self.batches, self.columns, self.num_chars = [], [], 0
        return table

    def append(self, table: pa.Table, is_last: bool) -> None:
        """Write a row group; the last one completes the file, which then gets its name."""
        if self.file is None:
            self.file = open_parquet_writer(self.temporary)
        self.file.write_table(table, row_group_size=max(1, len(table)))
        if is_last:
            write_counts(self.file, self.counts)
            self.file.close()
            write_rows(self.path, self.report)
            fsync_file(self.temporary)
            os.replace(self.temporary, self.path)
            # Arrow does not return freed memory to the system by itself.
            pa.default_memory_pool().release_unused()

    def discard(self) -> None:
        """Close and remove the unfinished file."""
        if self.file is not None:
            with contextlib.suppress(OSError):  # the disk may be full
                self.file.close()
        self.temporary.unlink(missing_ok=True)


class ShardWriter:
    """Writes the shards of all splits of a corpus; a context manager.

    A shard gets its name when it is complete. A background thread writes one row group while the
    next one is collected; memory holds these two and one unfinished row group of each other split.

    Args:
        folder: of the shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, _OpenShard] = {}  # split -> shard
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        try:
            self._wait()
        except Exception:
            if kind is None:  # otherwise an earlier error is being raised
                raise
        finally:
            self._thread.shutdown()
            for shard in self._open.values():
                shard.discard()

    def write(self, batch: TextBatch, columns: pa.RecordBatch) -> None:
        """Append a batch to its shard.

        Args:
            batch: the lines; those of one split come in order.
            columns: their analyses (``korlm.tokenizers.analysis.ANALYSIS``).

        Raises:
            OSError: an earlier row group could not be written.
        """
        shard = self._open.get(batch.split)
        if shard is None:
            shard = _OpenShard(shard_path(self._folder, batch.split, batch.shard))
            self._open[batch.split] = shard
        shard.batches.append(batch)
        shard.columns.append(columns)
        shard.num_chars += batch.num_chars
        if shard.num_chars >= ROW_GROUP_CHARS or batch.is_last:
            table = shard.take_row_group()
            self._wait()
            self._pending = self._thread.submit(self._append, shard, table, batch.is_last)
            if batch.is_last:
                del self._open[batch.split]

    def _append(self, shard: _OpenShard, table: pa.Table, is_last: bool) -> None:
        try:
            shard.append(table, is_last)
        except BaseException:
            shard.discard()
            raise

    def _wait(self) -> None:
        """Wait for the background thread; raise what went wrong there."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def to_table(batches: Sequence[TextBatch], columns: Sequence[pa.RecordBatch]) -> pa.Table:
    """Combine lines with their analyses into rows of ``SCHEMA``.

    Args:
        batches: the lines.
        columns: the analyses of each batch (``korlm.tokenizers.analysis.ANALYSIS``).
    """
    analyses = pa.Table.from_batches(columns)
    blocks = [block for batch in batches for block in batch.blocks]
    texts = [text for batch in batches for text in batch.texts]
    lengths = np.array([len(block.texts) for block in blocks], dtype=np.int64)
    starts = np.array([block.first for block in blocks], dtype=np.int64)
    starts -= np.cumsum(lengths) - lengths
    arrays = [
        pa.array([block.doc_id for block in blocks], pa.string()).take(
            pa.array(np.repeat(np.arange(len(blocks)), lengths))
        ),
        pa.array(np.repeat(starts, lengths) + np.arange(len(texts))),
        pa.array(texts, pa.string()),
        *(analyses.column(name) for name in SCHEMA.names[3:]),
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA).combine_chunks()


def _count(
    batches: Sequence[TextBatch], columns: Sequence[pa.RecordBatch], table: pa.Table
) -> ShardCounts:
    morphs, status = (table.column(name).chunk(0) for name in ("morphs", "status"))
    filled = pc.not_equal(status, _EMPTY).to_numpy(zero_copy_only=False)
    texts = [text for batch in batches for text in batch.normalized]
    kinds = pc.value_counts(status)
    return ShardCounts(
        num_lines=len(table),
        num_sentences=int(filled.sum()),
        num_morphs=len(morphs.flatten()),
        num_eojeol=int(count_units(texts)[filled].sum()),
        num_chars=int((np.fromiter(map(len, texts), np.int64, len(table)) + 1)[filled].sum()),
        status=dict(zip(kinds.field(0).to_pylist(), kinds.field(1).to_pylist(), strict=True)),
        num_dropped=sum(pc.sum(c.column("dropped")).as_py() or 0 for c in columns),
    )
