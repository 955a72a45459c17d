"""Read Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from korlm.config import CorpusFormat, TextConfig
from korlm.corpus.archives import open_file
from korlm.corpus.records import WHOLE, FileRange, Notes, Record, to_record
from korlm.utils.errors import CorpusError
from korlm.utils.io.urls import url_errors

ROWS = 4096  # number of rows read at a time
_NAMES = {CorpusFormat.parquet: "a Parquet", CorpusFormat.arrow: "an Arrow"}
_ARROW_FILE = b"ARROW1"  # first bytes of an Arrow file; an Arrow stream has no signature


def read_table_file(
    path: Path,
    config: TextConfig,
    file_format: CorpusFormat,
    notes: Notes,
    part: FileRange = WHOLE,
) -> Iterator[Record]:
    """Yield the rows of a Parquet or Arrow file; of a Parquet file those of some row groups.

    Raises:
        CorpusError: the file is damaged or of another format, lacks a column, or a text is missing.
    """
    columns = [name for _, name in config.columns]
    with _open_table(path, file_format) as reader:
        names = _schema_of(reader).names
        for key, name in config.columns:
            if names.count(name) == 1:
                continue
            if name in names:
                raise CorpusError(
                    f"{path}: has several columns {name!r}; rename all but the one to read, or "
                    f"give corpus.{key}=NAME"
                )
            raise CorpusError(
                f"{path}: has no column {name!r}, only {', '.join(names)}; give corpus.{key}=NAME"
            )
        first = 1
        if part.begin:
            groups = range(reader.num_row_groups)[: part.begin]  # fewer if the file has changed
            first += sum(reader.metadata.row_group(group).num_rows for group in groups)
        batches = _batches(reader, list(dict.fromkeys(columns)), part)
        for number, row in enumerate(_rows(path, batches, columns), first):
            if isinstance(row[0], str):
                cells = ["" if value is None else str(value) for value in row]
                yield to_record(config, cells)
            elif config.skip_without_text:
                notes.add("rows without text that are left out", f"{path}, row {number}")
            else:
                raise CorpusError(
                    f"{path}: row {number} has {row[0]!r:.40} under {config.text_column!r}, "
                    "not a string; correct it, or leave out such rows with "
                    "corpus.skip_without_text=true"
                )


def _batches(reader: Any, columns: list[str], part: FileRange) -> Iterator[pa.RecordBatch]:
    """Yield batches of rows; they have the given columns, and maybe others."""
    if isinstance(reader, pq.ParquetFile):
        groups = range(reader.num_row_groups)[part.begin : part.end]
        yield from reader.iter_batches(ROWS, row_groups=list(groups), columns=columns)
    elif isinstance(reader, pa.RecordBatchFileReader):
        yield from map(reader.get_batch, range(reader.num_record_batches))
    else:
        yield from reader


def _rows(
    path: Path, batches: Iterable[pa.RecordBatch], columns: list[str]
) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        yield from zip(*(_values(path, batch, name) for name in columns), strict=True)


def _values(path: Path, batch: pa.RecordBatch, name: str) -> list[Any]:
    """Return the values of a column as Python objects; bytes are decoded as UTF-8.

    Raises:
        CorpusError: a value has no such object, as a date after the year 9999.
    """
    column: Any = batch.column(name)
    try:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if _is_binary(column.type):
            column = column.cast(pa.large_string())
        elif pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            # Only pandas has timestamps with nanoseconds.
            column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # Arrow does not check strings when it reads them
        raise CorpusError(
            f"{path}: the column {name!r} has strings that are not UTF-8; write the file again"
        ) from None
    # KeyError: an unknown time zone. NotImplementedError: a type that Arrow cannot convert.
    except (ValueError, OverflowError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(
            f"{path}: the column {name!r} ({column.type}) cannot be read as text ({reason}); store "
            "it as strings, or read other columns (corpus.text_column, corpus.keep_columns, ...)"
        ) from None
    return values


def _is_binary(kind: pa.DataType) -> bool:
    """Return whether values are bytes, also if the column has a dictionary of its values."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        *(pa.types.is_binary, pa.types.is_large_binary),
        *(pa.types.is_binary_view, pa.types.is_fixed_size_binary),
    )
    return any(test(kind) for test in tests)


def read_names(path: Path, config: TextConfig, file_format: CorpusFormat) -> list[str]:
    """Return the other columns than that of the text, without lists, structs and bytes.

    Raises:
        CorpusError: the file is damaged or of another format.
    """
    with _open_table(path, file_format) as reader:
        names = dict.fromkeys(
            field.name
            for field in _schema_of(reader)
            if not (pa.types.is_nested(field.type) or _is_binary(field.type))
        )
        return [name for name in names if name and name != config.text_column]


def row_groups(path: Path) -> list[tuple[int, int]]:
    """Return (position in the file, size before compression) of each row group of a Parquet file.

    Raises:
        CorpusError: the file is damaged or of another format.
    """
    with _open_table(path, CorpusFormat.parquet) as reader:
        metadata = reader.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        return [(_first_byte(group), group.total_byte_size) for group in groups]


def _first_byte(group: Any) -> int:
    chunks: list[Any] = [group.column(n) for n in range(group.num_columns)]
    offsets = [(chunk.dictionary_page_offset, chunk.data_page_offset) for chunk in chunks]
    first: int = min(offset for pair in offsets for offset in pair if offset is not None)
    return first


def _schema_of(reader: Any) -> pa.Schema:
    return reader.schema_arrow if isinstance(reader, pq.ParquetFile) else reader.schema


@contextmanager
def _open_table(path: Path, file_format: CorpusFormat) -> Iterator[Any]:
    """Yield the reader of pyarrow for a Parquet or Arrow file.

    Raises:
        CorpusError: the file cannot be read, or an error of Arrow occurred within the block.
    """
    try:
        with url_errors(path, CorpusError), open_file(path) as file:
            open_reader: Any = pq.ParquetFile
            if file_format is CorpusFormat.arrow:
                head = file.read(len(_ARROW_FILE))
                file.seek(0)
                open_reader = pa.ipc.open_file if head == _ARROW_FILE else pa.ipc.open_stream
            with open_reader(file) as reader:
                yield reader
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(
            f"{path}: not {_NAMES[file_format]} file that can be read ({reason}); copy it "
            "again or leave it out"
        ) from error
