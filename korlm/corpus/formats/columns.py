"""Read Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from korlm.config import CorpusFormat, TextConfig
from korlm.corpus.archives import open_file
from korlm.corpus.formats.records import WHOLE, FileRange, Record, to_record
from korlm.corpus.notes import Notes
from korlm.utils.errors import CorpusError
from korlm.utils.io.urls import url_errors

ROWS = 4096  # number of rows read at a time
_NAMES = {CorpusFormat.parquet: "a Parquet", CorpusFormat.arrow: "an Arrow"}
_ARROW_FILE = b"ARROW1"  # first bytes of an Arrow file; an Arrow stream has no signature


def read_columns(
    path: Path,
    config: TextConfig,
    file_format: CorpusFormat,
    notes: Notes,
    part: FileRange = WHOLE,
) -> Iterator[Record]:
    """Yield the rows of a Parquet or Arrow file.

    Args:
        path: path of the file.
        config: names of the columns.
        file_format: parquet or arrow.
        notes: counts remarks on the file.
        part: the row groups to read; an Arrow file is always read as a whole.

    Raises:
        CorpusError: the file is damaged or of another format, lacks a column, or a text is missing.
    """
    columns = [name for _, name in config.columns]
    with _open_table(path, file_format) as table:
        for key, name in config.columns:
            if name not in table.names:
                raise CorpusError(
                    f"{path}: has no column {name!r}, only {', '.join(table.names)}; give "
                    f"corpus.{key}=NAME"
                )
            if table.names.count(name) > 1:
                raise CorpusError(
                    f"{path}: has several columns {name!r}; rename all but the one to read, "
                    f"or give corpus.{key}=NAME"
                )
        rows = _rows(path, table.batches(list(dict.fromkeys(columns)), part), columns)
        for number, row in enumerate(rows, table.rows_before(part.begin) + 1):
            if isinstance(row[0], str):
                yield to_record(config, [*map(_cell, row)])
            elif config.skip_without_text:
                notes.add("rows without text that are left out", f"{path}, row {number}")
            else:
                raise CorpusError(
                    f"{path}: row {number} has {row[0]!r:.40} under {config.text_column!r}, "
                    "not a string; correct it, or leave out such rows with "
                    "corpus.skip_without_text=true"
                )


def _rows(
    path: Path, batches: Iterable[pa.RecordBatch], columns: list[str]
) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        yield from zip(*(_values(path, batch, name) for name in columns), strict=True)


def _values(path: Path, batch: pa.RecordBatch, name: str) -> list[Any]:
    try:
        values: list[Any] = batch.column(name).to_pylist()
        return values
    except UnicodeDecodeError:  # Arrow does not check strings when it reads them
        raise CorpusError(
            f"{path}: the column {name!r} has strings that are not UTF-8; write the file again"
        ) from None


def read_names(path: Path, config: TextConfig, file_format: CorpusFormat) -> list[str]:
    """Return the other columns than that of the text, without lists and structs.

    Raises:
        CorpusError: the file is damaged or of another format.
    """
    with _open_table(path, file_format) as table:
        plain = [name for name in table.names if not pa.types.is_nested(table.type_of(name))]
        return [name for name in plain if name != config.text_column]


def row_groups(path: Path) -> list[tuple[int, int]]:
    """Return (position in the file, size before compression) of each row group of a Parquet file.

    Raises:
        CorpusError: the file is damaged or of another format.
    """
    with _open_table(path, CorpusFormat.parquet) as table:
        return table.row_groups()


def _first_byte(group: Any) -> int:
    chunks: list[Any] = [group.column(n) for n in range(group.num_columns)]
    offsets = [(chunk.dictionary_page_offset, chunk.data_page_offset) for chunk in chunks]
    first: int = min(offset for pair in offsets for offset in pair if offset is not None)
    return first


class _Table:
    """An open Parquet or Arrow file, whose columns are read in batches of rows."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._schema: pa.Schema = getattr(reader, "schema_arrow", None) or reader.schema
        self.names: list[str] = self._schema.names

    def type_of(self, name: str) -> pa.DataType:
        """Return the type of a column."""
        return self._schema.field(name).type

    def row_groups(self) -> list[tuple[int, int]]:
        """Return what ``row_groups`` returns, for a Parquet file."""
        metadata = self._reader.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        return [(_first_byte(group), group.total_byte_size) for group in groups]

    def rows_before(self, group: int) -> int:
        """Return the number of rows before a row group; 0 for an Arrow file."""
        if group == 0:
            return 0
        metadata = self._reader.metadata
        num_groups = min(group, metadata.num_row_groups)  # fewer if the file has changed
        return sum(metadata.row_group(number).num_rows for number in range(num_groups))

    def batches(self, columns: list[str], part: FileRange) -> Iterator[pa.RecordBatch]:
        """Yield batches of rows of a part; they have the given columns, and maybe others."""
        reader = self._reader
        if isinstance(reader, pq.ParquetFile):
            groups = range(reader.num_row_groups)[part.begin : part.end]
            yield from reader.iter_batches(ROWS, row_groups=list(groups), columns=columns)
        elif isinstance(reader, pa.RecordBatchFileReader):
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            yield from reader


@contextmanager
def _open_table(path: Path, file_format: CorpusFormat) -> Iterator[_Table]:
    """Open a Parquet or Arrow file.

    Raises:
        CorpusError: the file cannot be read, or an error of Arrow occurred within the block.
    """
    try:
        with (
            url_errors(path, CorpusError),
            open_file(path) as file,
            _read_schema(file, file_format) as table,
        ):
            yield table
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(
            f"{path}: not {_NAMES[file_format]} file that can be read ({reason}); copy it "
            "again or leave it out"
        ) from error


@contextmanager
def _read_schema(file: IO[bytes], file_format: CorpusFormat) -> Iterator[_Table]:
    if file_format is CorpusFormat.parquet:
        with pq.ParquetFile(file) as parquet:
            yield _Table(parquet)
        return
    head = file.read(len(_ARROW_FILE))
    file.seek(0)
    with (pa.ipc.open_file if head == _ARROW_FILE else pa.ipc.open_stream)(file) as arrow:
        yield _Table(arrow)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
