"""Token shards: Parquet files of analysed lines, readable as they are by pandas, DuckDB or Spark.

    tokens/<split>-<number>.parquet
    doc_id string, line int64, text string, morphs list<string>, tags list<string>,
    eojeol list<int32>, status string

``text`` is the line as read, so nothing is ever lost. A shard appears under its name only when it
is whole; a rerun skips what is there. Its counts stand in its own metadata. The same text gives the
same bytes, however often the work was broken off: what took how long stands elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from korlm.config.paths import mend_prepared
from korlm.config.stored import read_json
from korlm.dataset.statistics.tokenization_report import report_rows, write_rows
from korlm.dataset.text_batches import Batch
from korlm.text.eojeol import count_units
from korlm.utils.errors import PreparedError
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import fsync_file

ROW_GROUP_CHARS = 250_000  # characters of text that are counted and mapped to ids at once


_COUNTS = b"korlm"


_EMPTY = pa.scalar("empty", pa.string())


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


# Lines hardly ever repeat: a dictionary of them would cost time and save nothing.
_DICTIONARIES = [
    "doc_id",
    *(f"{name}.list.element" for name in ("morphs", "tags", "eojeol")),
    "status",
]


@dataclass
class ShardCounts:
    """What stands in one shard or, added up, in one split.

    Blank lines count in ``num_lines`` and ``status`` only: no token is predicted there.
    ``num_chars`` counts characters of the normalized lines, one for the line end included;
    ``num_dropped`` those that stand in no token.
    """

    num_lines: int = 0
    num_sentences: int = 0
    num_morphs: int = 0
    num_eojeol: int = 0
    num_chars: int = 0
    status: dict[str, int] = field(default_factory=dict)
    num_dropped: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of the id stream: all morphs, and <eos> after each line that is not blank."""
        return self.num_morphs + self.num_sentences

    def add(self, other: ShardCounts) -> None:
        """Adds the counts of another shard."""
        for name in (f.name for f in dataclasses.fields(self) if f.name.startswith("num_")):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.status = dict(sorted((Counter(self.status) + Counter(other.status)).items()))


def shard_path(folder: Path, split: str, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"{split}-{number:05d}.parquet"


def shard_paths(folder: Path, split: str) -> list[Path]:
    """The shards of a split, in order."""
    return sorted(folder.glob(f"{split}-*.parquet"))


class ShardWriter:
    """Writes the shards of one split, one after the other; memory holds two row groups at most.

    Args:
        folder: of the shards.
        executor: writes while the next row group is gathered; None: ``write`` does it all itself.
    """

    def __init__(self, folder: Path, executor: Executor | None = None) -> None:
        self._folder = folder
        self._executor = executor
        self._pending: Future[None] | None = None
        self._writer: Any = None
        self._temporary: Path | None = None
        self._batches: list[Batch] = []
        self._columns: list[pa.RecordBatch] = []
        self._chars = 0
        self._counts = ShardCounts()
        self._rows: list[str] = []  # of the report

    def write(self, batch: Batch, columns: pa.RecordBatch) -> None:
        """Appends a batch; the last one of a shard gives the shard its name."""
        target = shard_path(self._folder, batch.split, batch.shard)
        self._batches.append(batch)
        self._columns.append(columns)
        self._chars += batch.num_chars
        if self._chars >= ROW_GROUP_CHARS or batch.last:
            table = table_of(self._batches, self._columns)
            self._counts.add(_count(self._batches, self._columns, table))
            measured = pa.Table.from_batches(self._columns)
            self._rows += report_rows(table, measured["seconds"], measured["dropped"])
            self._batches, self._columns, self._chars = [], [], 0
            self.wait()  # until the row group before is written: memory holds two
            end = (self._counts, self._rows) if batch.last else None
            if batch.last:
                self._counts, self._rows = ShardCounts(), []
            if self._executor is None:
                self._append(target, table, end)
            else:
                self._pending = self._executor.submit(self._append, target, table, end)

    def wait(self) -> None:
        """Until all is written that was given; raises what went wrong with it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _append(
        self, target: Path, table: pa.Table, end: tuple[ShardCounts, list[str]] | None
    ) -> None:
        """Writes a row group; with the last one, the counts and rows of the report come too."""
        if self._writer is None:
            self._temporary = target.with_suffix(".tmp")
            self._writer = pq.ParquetWriter(
                self._temporary,
                SCHEMA,
                compression="zstd",
                compression_level=1,
                use_dictionary=_DICTIONARIES,
                write_statistics=["doc_id", "line"],  # of words, least and greatest tell nothing
                write_page_checksum=True,
            )
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        if end is not None:
            self._finish(target, *end)

    def _finish(self, target: Path, counts: ShardCounts, rows: list[str]) -> None:
        """Gives a shard its name, when all that belongs to it is written."""
        told = json.dumps(dataclasses.asdict(counts), ensure_ascii=False)
        self._writer.add_key_value_metadata({_COUNTS: told.encode()})
        self._writer.close()
        self._writer = None
        write_rows(target, rows)
        fsync_file(target.with_suffix(".tmp"))
        os.replace(target.with_suffix(".tmp"), target)
        # Arrow keeps freed memory for itself; a long corpus should not make it a collector.
        pa.default_memory_pool().release_unused()

    def close(self) -> None:
        """Removes a shard that did not become whole."""
        with contextlib.suppress(Exception):  # whatever it was, this shard is not whole
            self.wait()
        if self._writer is not None:
            with contextlib.suppress(OSError):  # a full disk may be why it did not
                self._writer.close()
            self._writer = None
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


def table_of(batches: Sequence[Batch], columns: Sequence[pa.RecordBatch]) -> pa.Table:
    """Lines and what was made of them, as a shard holds them: a row of SCHEMA for each."""
    analysed = pa.Table.from_batches(columns)
    lines = [part for batch in batches for part in batch.lines]
    texts = [text for batch in batches for text in batch.texts]
    lengths = np.array([len(part.texts) for part in lines], dtype=np.int64)
    starts = np.array([part.first for part in lines], dtype=np.int64)
    starts -= np.cumsum(lengths) - lengths
    arrays = [
        pa.array([part.doc_id for part in lines], pa.string()).take(
            pa.array(np.repeat(np.arange(len(lines)), lengths))
        ),
        pa.array(np.repeat(starts, lengths) + np.arange(len(texts))),
        pa.array(texts, pa.string()),
        *(analysed.column(name) for name in SCHEMA.names[3:]),
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA).combine_chunks()


def _count(
    batches: Sequence[Batch], columns: Sequence[pa.RecordBatch], table: pa.Table
) -> ShardCounts:
    morphs, status = (table.column(name).chunk(0) for name in ("morphs", "status"))
    filled = pc.not_equal(status, _EMPTY).to_numpy(zero_copy_only=False)
    normal = [text for batch in batches for text in batch.normal]
    kinds = pc.value_counts(status)
    return ShardCounts(
        num_lines=len(table),
        num_sentences=int(filled.sum()),
        num_morphs=len(morphs.flatten()),
        num_eojeol=int(count_units(normal)[filled].sum()),
        num_chars=int((np.fromiter(map(len, normal), np.int64, len(table)) + 1)[filled].sum()),
        status=dict(zip(kinds.field(0).to_pylist(), kinds.field(1).to_pylist(), strict=True)),
        num_dropped=sum(pc.sum(c.column("dropped")).as_py() or 0 for c in columns),
    )


def read_counts(path: Path) -> ShardCounts:
    """The counts of a shard, from its metadata.

    Raises:
        PreparedError: the file is damaged or no shard of korlm.
    """
    try:
        _check(path)
        metadata = pq.read_metadata(path).metadata or {}
        return ShardCounts(**json.loads(metadata[_COUNTS]))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise PreparedError(
            f"{path}: damaged or no token shard ({error}); {mend_prepared(path.parents[1])}"
        ) from error


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The record batches of a shard, some of its columns only; memory holds one."""
    try:
        _check(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(columns))
                yield from table.combine_chunks().to_batches()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise PreparedError(
            f"{path}: damaged ({error}); {mend_prepared(path.parents[1])}"
        ) from error


def _check(path: Path) -> None:
    """Check a shard of a prepared corpus against the manifest beside it.

    The checksums of Parquet's pages leave out the rest of the file, such as its counts; shards that
    are still being made have nothing else.

    Raises:
        OSError: a file cannot be read.
        ValueError: the shard has changed.
    """
    folder = path.parent.parent
    manifest = folder / "manifest.json"
    if path.parent.name == "tokens" and manifest.is_file():
        found = manifest.stat()
        checksums.check_file(path, folder, _sums(manifest, found.st_mtime_ns, found.st_ino))


@functools.lru_cache(maxsize=8)
def _sums(manifest: Path, *state: int) -> dict[str, str]:
    """Return the checksums that a manifest lists; a process reads the same one once."""
    found = read_json(manifest)
    checksums.check_seal(found)
    return dict(found[checksums.KEY])
