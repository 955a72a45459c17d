"""Write the files of a piece of a corpus: token shards, report, counts of tokens, record."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from korlm.dataset.statistics.tokenization_report import report_rows
from korlm.dataset.storage.piece_files import (
    REPORT,
    SHARD,
    TOKEN_COUNTS,
    PieceRecord,
    piece_path,
    write_record,
)
from korlm.dataset.storage.shards import (
    SCHEMA,
    ShardCounts,
    non_blank_mask,
    open_parquet_writer,
    write_counts,
)
from korlm.dataset.storage.token_counts import add_tokens, write_token_counts
from korlm.dataset.text_batches import TextBatch
from korlm.text.eojeol import count_units
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import atomic_write

ROW_GROUP_CHARS = 250_000  # characters of text in a row group, which is read and encoded at once
NO_COLUMNS: Mapping[str, str] = MappingProxyType({})


class _Shard:
    """Shard of a split that is being written: pending batches of a row group, and the totals."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.batches: list[TextBatch] = []
        self.analyses: list[pa.RecordBatch] = []
        self.num_chars = 0
        self.counts = ShardCounts()
        self.report: list[str] = []
        self._stack = contextlib.ExitStack()
        self._path = self._stack.enter_context(atomic_write(path, shared=True))
        self.writer = open_parquet_writer(self._path, schema)

    def take_row_group(self, columns: Mapping[str, str]) -> pa.Table:
        """Return the pending batches as one table and add them to the totals."""
        table = to_table(self.batches, self.analyses, columns)
        self.counts.add(_count(self.batches, self.analyses, table))
        analyses = pa.Table.from_batches(self.analyses)
        self.report += report_rows(table, analyses["seconds"], analyses["dropped"])
        self.batches, self.analyses, self.num_chars = [], [], 0
        return table

    def complete(self) -> str:
        """Give the file its name; return its checksum."""
        write_counts(self.writer, self.counts)
        self.writer.close()
        crc32 = checksums.crc32(self._path)
        self._stack.close()
        return crc32

    def discard(self) -> None:
        """Close and remove the file, unless it is complete."""
        with contextlib.suppress(OSError):  # the disk may be full
            self.writer.close()
        with contextlib.suppress(RuntimeError), self._stack:
            raise RuntimeError("not complete")  # atomic_write removes the file


class PieceWriter:
    """Writes the files of a piece; a context manager.

    Files get their names when the piece is complete. A background thread writes one row group while
    the next one is collected; memory holds these two and one unfinished row group of each other
    split.

    Args:
        folder: of the files (``korlm.dataset.storage.piece_files``).
        number: of the piece.
        columns: further columns of the shards -> the columns of ``LineBlock.columns``.
    """

    def __init__(self, folder: Path, number: int, columns: Mapping[str, str] = NO_COLUMNS) -> None:
        self._folder, self._number, self._columns = folder, number, columns
        self._schema = pa.schema([*SCHEMA, *((name, pa.string()) for name in columns)])
        self._shards: dict[str, _Shard] = {}  # of each split
        self._tokens: Counter[str] = Counter()  # of train
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()
        for shard in self._shards.values():
            shard.discard()
        # Arrow does not return freed memory to the system by itself.
        pa.default_memory_pool().release_unused()

    def write(self, batch: TextBatch, analyses: pa.RecordBatch) -> None:
        """Append a batch; those of one split come in order.

        Raises:
            OSError: an earlier row group could not be written.
        """
        if batch.split not in self._shards:
            self._shards[batch.split] = _Shard(self._path(SHARD, batch.split), self._schema)
        shard = self._shards[batch.split]
        shard.batches.append(batch)
        shard.analyses.append(analyses)
        shard.num_chars += batch.num_chars
        if shard.num_chars >= ROW_GROUP_CHARS:
            self._write_row_group(batch.split)

    def finish(self, key: str) -> PieceRecord:
        """Complete the files and return their record.

        Raises:
            OSError: a file could not be written.
        """
        for split, shard in self._shards.items():
            if shard.batches:
                self._write_row_group(split)
        self._wait()
        files = {}
        for split, shard in sorted(self._shards.items()):
            if shard.report:
                with atomic_write(self._path(REPORT, split), shared=True) as path:
                    path.write_text("\n".join(shard.report) + "\n", encoding="ascii")
                    files[REPORT.format(split=split)] = checksums.crc32(path)
            files[SHARD.format(split=split)] = shard.complete()
        if "train" in self._shards:
            path = self._path(TOKEN_COUNTS)
            files[TOKEN_COUNTS] = write_token_counts(path, self._tokens)
        counts = {split: shard.counts for split, shard in sorted(self._shards.items())}
        record = PieceRecord(key, counts, files)
        write_record(self._folder, self._number, record)
        return record

    def _path(self, name: str, split: str = "") -> Path:
        return piece_path(self._folder, name.format(split=split), self._number)

    def _write_row_group(self, split: str) -> None:
        shard = self._shards[split]
        table = shard.take_row_group(self._columns)
        self._wait()
        tokens = self._tokens if split == "train" else None
        self._pending = self._thread.submit(_append, shard.writer, table, tokens)

    def _wait(self) -> None:
        """Wait for the background thread; raise what went wrong there."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _append(writer: pq.ParquetWriter, table: pa.Table, tokens: Counter[str] | None) -> None:
    """Write a row group and count its tokens."""
    writer.write_table(table, row_group_size=max(1, len(table)))
    if tokens is not None:
        add_tokens(tokens, table.column("morphs").chunk(0).flatten())


def to_table(
    batches: Sequence[TextBatch],
    analyses: Sequence[pa.RecordBatch],
    columns: Mapping[str, str] = NO_COLUMNS,
) -> pa.Table:
    """Combine lines with their analyses (``korlm.tokenizers.analysis``) into rows of ``SCHEMA``.

    ``columns``: further columns -> the columns of ``LineBlock.columns``; null where there is none.
    """
    analyzed = pa.Table.from_batches(analyses)
    blocks = [block for batch in batches for block in batch.blocks]
    texts = [text for batch in batches for text in batch.texts]
    doc_ids: list[str] = []
    lines: list[int] = []
    for block in blocks:
        size = len(block.texts)
        if block.are_documents:
            doc_ids += map(block.doc_id, range(size))
            lines += [1] * size
        else:
            doc_ids += [block.document] * size
            lines += range(block.first, block.first + size)
    arrays = [
        pa.array(doc_ids, pa.string()),
        pa.array(lines, pa.int64()),
        pa.array(texts, pa.string()),
        *(analyzed.column(name) for name in SCHEMA.names[3:]),
    ]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    for name, column in columns.items():
        values = [
            value
            for block in blocks
            for value in block.columns.get(column, [None] * len(block.texts))
        ]
        table = table.append_column(pa.field(name, pa.string()), pa.array(values, pa.string()))
    return table.combine_chunks()


def _count(
    batches: Sequence[TextBatch], analyses: Sequence[pa.RecordBatch], table: pa.Table
) -> ShardCounts:
    morphs, status = (table.column(name).chunk(0) for name in ("morphs", "status"))
    non_blank = non_blank_mask(status)
    texts = [text for batch in batches for text in batch.normalized]
    statuses = pc.value_counts(status)
    return ShardCounts(
        num_lines=len(table),
        num_sentences=int(non_blank.sum()),
        num_morphs=len(morphs.flatten()),
        num_eojeol=int(count_units(texts)[non_blank].sum()),
        num_chars=int((np.fromiter(map(len, texts), np.int64, len(table)) + 1)[non_blank].sum()),
        status={row["values"]: row["counts"] for row in statuses.to_pylist()},
        num_dropped=sum(pc.sum(c.column("dropped")).as_py() or 0 for c in analyses),
    )
