"""Reads Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from korlm.config import CorpusFormat, TextConfig
from korlm.corpus.archives import open_file
from korlm.corpus.formats.records import Record
from korlm.corpus.notes import Notes
from korlm.utils.errors import CorpusError

ROWS = 4096  # read at a time
_NAMES = {CorpusFormat.parquet: "a Parquet", CorpusFormat.arrow: "an Arrow"}
_ARROW_FILE = b"ARROW1"  # at the beginning; an Arrow stream has no signature


def read_columns(
    path: Path, config: TextConfig, file_format: CorpusFormat, notes: Notes
) -> Iterator[Record]:
    """Read the rows of a Parquet or Arrow file.

    Args:
        path: of the file.
        config: names of the columns.
        file_format: parquet or arrow.
        notes: counts remarks.

    Raises:
        CorpusError: the file is damaged or of another format, lacks a column, or a text is missing.
    """
    keys = config.column_keys
    columns = [getattr(config, key) for key in keys]
    try:
        with open_file(path) as file, _opened(file, file_format) as table:
            for key, name in zip(keys, columns, strict=True):
                if name not in table.names:
                    raise CorpusError(
                        f"{path}: has no column {name!r}, only {', '.join(table.names)}; give "
                        f"corpus.{key}=NAME"
                    )
            number = 0
            for batch in table.batches(list(dict.fromkeys(columns))):
                for row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                    number += 1
                    cells = dict(zip(keys, row, strict=True))
                    text = cells["text_column"]
                    if not isinstance(text, str):
                        if not config.skip_without_text:
                            raise CorpusError(
                                f"{path}: row {number} has {text!r:.40} under "
                                f"{config.text_column!r}, not a string; correct it, or leave out "
                                "such rows with corpus.skip_without_text=true"
                            )
                        notes.add("rows without text that are left out", f"{path}, row {number}")
                        continue
                    yield Record(
                        text,
                        _cell(cells.get("document_column")),
                        _cell(cells.get(config.annotation_key)),
                    )
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        kind = _NAMES[file_format]
        raise CorpusError(f"{path}: not {kind} file that can be read ({reason})") from error


class _Table:
    """Columns of an open file, read in batches of rows."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        schema: pa.Schema = getattr(reader, "schema_arrow", None) or reader.schema
        self.names: list[str] = schema.names

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield batches that have the given columns, and maybe others."""
        reader = self._reader
        if isinstance(reader, pq.ParquetFile):
            yield from reader.iter_batches(ROWS, columns=columns)
        elif isinstance(reader, pa.RecordBatchFileReader):
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            yield from reader


@contextmanager
def _opened(file: IO[bytes], file_format: CorpusFormat) -> Iterator[_Table]:
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
