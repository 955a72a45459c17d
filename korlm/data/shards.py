"""Token shards: Parquet files of analysed lines, readable as they are by pandas, DuckDB or Spark.

    tokens/<split>-<number>.parquet
    doc_id string, line int64, text string, morphs list<string>, tags list<string>,
    eojeol list<int32>, status string

``text`` is the line as read, so nothing is ever lost. A shard appears under its name only when it
is whole; a rerun skips what is there. Its counts stand in its own metadata.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from korlm.data.corpus import Line, normalize
from korlm.data.tokenizer import Analysis
from korlm.errors import PreparedError

SHARD_CHARS = 1_000_000  # characters of text after which a shard is closed
ROW_GROUP_CHARS = 250_000  # characters of text that are counted and mapped to ids at once
BATCH_CHARS = 16_384  # characters of text that are tokenized at once
_COUNTS = b"korlm"

SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("line", pa.int64()),
        ("text", pa.string()),
        ("morphs", pa.list_(pa.string())),
        ("tags", pa.list_(pa.string())),
        ("eojeol", pa.list_(pa.int32())),
        ("status", pa.string()),
    ]
)


@dataclass
class ShardCounts:
    """What stands in one shard or, added up, in one split.

    Blank lines count in ``num_lines`` and ``status`` only: no token is predicted there.
    ``num_chars`` counts NFC characters, one for the line end included.
    """

    num_lines: int = 0
    num_sentences: int = 0
    num_morphs: int = 0
    num_eojeol: int = 0
    num_chars: int = 0
    status: dict[str, int] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Tokens of the id stream: all morphs, and <eos> after each line that is not blank."""
        return self.num_morphs + self.num_sentences

    def add(self, other: ShardCounts) -> None:
        """Adds the counts of another shard."""
        for key in ("num_lines", "num_sentences", "num_morphs", "num_eojeol", "num_chars"):
            setattr(self, key, getattr(self, key) + getattr(other, key))
        self.status = dict(sorted((Counter(self.status) + Counter(other.status)).items()))


@dataclass(frozen=True)
class Batch:
    """Lines of one split that are tokenized together, and the shard they go to."""

    split: str
    shard: int
    last: bool  # of its shard
    lines: list[Line]

    @property
    def num_chars(self) -> int:
        """Characters of text as read, one for each line end included."""
        return sum(len(line.text) + 1 for line in self.lines)


class Batcher:
    """Parts the lines of a corpus into batches, and tells which shard each belongs to.

    Depends on the text alone, so that a rerun makes the same batches and the same shards.
    """

    def __init__(self) -> None:
        self._lines: dict[str, list[Line]] = {}
        self._batch_chars: Counter[str] = Counter()
        self._shard_chars: Counter[str] = Counter()
        self._shard: Counter[str] = Counter()

    def batches(self, lines: Iterator[Line]) -> Iterator[Batch]:
        """Batches in the order in which they fill; those of one split stay in order."""
        for line in lines:
            split = line.split
            self._lines.setdefault(split, []).append(line)
            size = len(line.text) + 1
            self._batch_chars[split] += size
            self._shard_chars[split] += size
            if self._batch_chars[split] >= BATCH_CHARS:
                yield self._close(split, self._shard_chars[split] >= SHARD_CHARS)
        for split, rest in list(self._lines.items()):
            # An empty batch closes the shard that the last full one left open.
            if rest or self._shard_chars[split]:
                yield self._close(split, last=True)

    def _close(self, split: str, last: bool) -> Batch:
        batch = Batch(split, self._shard[split], last, self._lines[split])
        self._lines[split] = []
        self._batch_chars[split] = 0
        if last:
            self._shard[split] += 1
            self._shard_chars[split] = 0
        return batch


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{split}-{number:05d}.parquet"


def shard_paths(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order."""
    return sorted(folder.glob(f"{split}-*.parquet"))


class ShardWriter:
    """Writes the shards of one split, one after the other; memory holds one row group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._temporary: Path | None = None
        self._tables: list[pa.Table] = []
        self._chars = 0
        self._counts = ShardCounts()

    def write(self, batch: Batch, analyses: Sequence[Analysis]) -> None:
        """Appends a batch; the last one of a shard gives the shard its name."""
        target = shard_path(self._folder, batch.split, batch.shard)
        if self._writer is None:
            self._temporary = target.with_suffix(".tmp")
            self._writer = pq.ParquetWriter(self._temporary, SCHEMA, compression="zstd")
        self._tables.append(_table(batch.lines, analyses))
        self._counts.add(_count(batch.lines, analyses))
        self._chars += batch.num_chars
        if self._chars >= ROW_GROUP_CHARS or batch.last:
            table = pa.concat_tables(self._tables)
            self._writer.write_table(table, row_group_size=max(1, len(table)))
            self._tables, self._chars = [], 0
        if batch.last:
            counts = json.dumps(dataclasses.asdict(self._counts), ensure_ascii=False)
            self._writer.add_key_value_metadata({_COUNTS: counts.encode()})
            self._writer.close()
            self._writer, self._counts = None, ShardCounts()
            os.replace(target.with_suffix(".tmp"), target)
            # Arrow keeps freed memory for itself; a long corpus should not make it a collector.
            pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Removes a shard that did not become whole."""
        if self._writer is not None and self._temporary is not None:
            with contextlib.suppress(OSError):  # a full disk may be why it did not
                self._writer.close()
            self._writer = None
            self._temporary.unlink(missing_ok=True)


def _table(lines: Sequence[Line], analyses: Sequence[Analysis]) -> pa.Table:
    columns = [
        [line.doc_id for line in lines],
        [line.line for line in lines],
        [line.text for line in lines],
        [analysis.morphs for analysis in analyses],
        [analysis.tags for analysis in analyses],
        [analysis.eojeol for analysis in analyses],
        [analysis.status for analysis in analyses],
    ]
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _count(lines: Sequence[Line], analyses: Sequence[Analysis]) -> ShardCounts:
    counts = ShardCounts(num_lines=len(lines), status=dict(Counter(a.status for a in analyses)))
    for line, analysis in zip(lines, analyses, strict=True):
        if analysis.status != "empty":
            counts.num_sentences += 1
            counts.num_morphs += len(analysis.morphs)
            counts.num_eojeol += len(line.text.split())
            counts.num_chars += len(normalize(line.text)) + 1
    return counts


def read_counts(path: Path) -> ShardCounts:
    """The counts of a shard, from its metadata.

    Raises:
        PreparedError: the file is damaged or no shard of korlm.
    """
    try:
        metadata = pq.read_metadata(path).metadata or {}
        return ShardCounts(**json.loads(metadata[_COUNTS]))
    except (pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError) as error:
        raise PreparedError(
            f"{path}: damaged or no token shard ({error}); delete its prepared folder and run again"
        ) from error


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The record batches of a shard, some of its columns only; memory holds one."""
    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(columns))
                yield from table.combine_chunks().to_batches()
    except (pa.ArrowInvalid, OSError) as error:
        raise PreparedError(
            f"{path}: damaged ({error}); delete its prepared folder and run again"
        ) from error
