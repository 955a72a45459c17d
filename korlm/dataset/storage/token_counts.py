"""Read, write and merge counts of tokens: Parquet files with token and count, sorted by token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from korlm.config.paths import mend_prepared
from korlm.utils.errors import PreparedError, reading
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.urls import local_copy

_SCHEMA = pa.schema([("token", pa.string()), ("count", pa.int64())])


def add_tokens(counter: Counter[str], tokens: pa.StringArray) -> None:
    """Count some tokens, without nulls."""
    counts = pc.value_counts(tokens)
    get = counter.get  # ten times as fast as counter[token] for a missing token
    columns = (to_list(counts.field(name)) for name in ("values", "counts"))
    for token, count in zip(*columns, strict=True):
        counter[token] = get(token, 0) + count


def to_list(array: pa.Array) -> list[Any]:
    """Convert an array without nulls; several times as fast as ``to_pylist``."""
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    return values


def write_token_counts(path: Path, counter: Counter[str]) -> str:
    """Write counts; return the checksum of the file."""
    tokens = sorted(counter)
    return _write(path, pa.table([tokens, [counter[token] for token in tokens]], schema=_SCHEMA))


def add_up_counts(paths: Sequence[Path]) -> pa.Table:
    """Return the sums of the counts of several files, sorted by token."""
    tables = [_SCHEMA.empty_table(), *map(_read, paths)]
    table = pa.concat_tables(tables).group_by("token").aggregate([("count", "sum")])
    table = table.rename_columns({"count_sum": "count"}).select(_SCHEMA.names)
    return table.cast(_SCHEMA).sort_by("token")


@dataclass(frozen=True)
class CountFiles:
    """Files of token counts to add up, and the file of the sums."""

    paths: list[Path]
    target: Path

    def __str__(self) -> str:
        """Return the target, for messages."""
        return str(self.target)


def merge_counts(files: CountFiles) -> None:
    """Write the sums of the counts of several files."""
    _write(files.target, add_up_counts(files.paths))


def iterate_counts(table: pa.Table) -> Iterator[tuple[str, int]]:
    """Yield the rows of a table of counts."""
    for batch in table.to_batches(max_chunksize=1 << 16):
        yield from zip(*map(to_list, batch.columns), strict=True)


def _write(path: Path, table: pa.Table) -> str:
    with atomic_write(path, shared=True) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        return checksums.crc32(temporary)


def _read(path: Path) -> pa.Table:
    with (
        reading(path, PreparedError, mend_prepared(path.parents[1])),
        local_copy(path) as local,
    ):
        return pq.read_table(local, schema=_SCHEMA, page_checksum_verification=True)
