r"""Write tables in parts as TSV, JSON lines (both plain or gzip) or Parquet, atomically.

A TSV file has a header and is read without options by pandas (``read_csv(FILE, sep="\t")``), R
(``read.delim(FILE)``) and spreadsheets: a cell with a quote, a tab or a line end is in double
quotes, its own quotes doubled (RFC 4180), and null is ``NA``. Numbers have at most five decimals; a
list or an object is JSON.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from korlm.utils.errors import OutputError, output_errors
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.streams import TerminalBytes, is_non_utf8_terminal

STDOUT = "-"

NULL = "NA"
DECIMALS = 5
_QUOTED = r'["\t\n\r]'  # in cells that need quotes


def tsv_lines(table: pa.Table) -> bytes:
    r"""Return the rows of a table as lines of TSV.

    >>> table = pa.table({"text": ['a"b', None], "bits": [1.234567, float("inf")]})
    >>> tsv_lines(table).decode().split("\n")
    ['"a""b"\t1.23457', 'NA\tinf', '']
    """
    cells = [_cells(column.combine_chunks()) for column in table.columns]
    options = {"null_handling": "replace", "null_replacement": NULL}
    rows = pc.binary_join_element_wise(*cells, "\t", **options).to_pylist()
    return "".join(f"{row}\n" for row in rows).encode()


def _cells(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        column = pc.round(column, DECIMALS)
    if pa.types.is_nested(column.type):
        column = pa.array([to_json(value) for value in column.to_pylist()], pa.string())
    if not pa.types.is_string(column.type):
        return pc.cast(column, pa.string())
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(column, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(column, _QUOTED), quoted, column)


def to_json(value: Any) -> str:
    """Return a value as one line of JSON, with numbers of at most five decimals."""
    return json.dumps(_rounded(value), ensure_ascii=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def check_target(path: Path, key: str) -> None:
    """Raise an ``OutputError`` if a path is a folder, or its folder does not exist."""
    if path.is_dir():
        raise OutputError(f"{key}={path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise OutputError(
            f"{key}={path}: the folder {path.parent} does not exist; create it, "
            f"or give another {key}=FILE"
        )


def check_not_read(outputs: Mapping[str, str | None], inputs: Iterable[str | Path | None]) -> None:
    """Raise an ``OutputError`` if a command would replace one of the files that it reads.

    Args:
        outputs: setting -> its file; ``-`` is standard output.
        inputs: the files that are read.
    """
    paths = {os.path.realpath(path) for path in inputs if path is not None}
    for key, target in outputs.items():
        if target not in (None, STDOUT) and os.path.realpath(target) in paths:
            raise OutputError(f"{key}={target}: is also read; give another file")


class TableWriter:
    """Writes a table in parts; a context manager.

    The file appears when the block ends; if the block raises, nothing remains.

    Args:
        target: FILE.tsv, FILE.jsonl (both also with .gz), FILE.parquet, or ``-`` for standard
            output.
        schema: schema of the table.
        key: the setting that names the target, for messages.
        json_lines: write JSON lines instead of TSV to standard output.

    Raises:
        OutputError: the target cannot be written.
    """

    def __init__(self, target: str, schema: pa.Schema, key: str, json_lines: bool = False) -> None:
        self._json_lines = json_lines or target.removesuffix(".gz").endswith(".jsonl")
        self._path = None if target == STDOUT else Path(target)
        self._name = Path("standard output") if self._path is None else self._path
        self._key = key
        with self._writing(), contextlib.ExitStack() as stack:
            if self._path is not None:
                check_target(self._path, key)
                temporary = stack.enter_context(atomic_write(self._path))
                self._file = stack.enter_context(_open(temporary, self._path.suffix, schema))
            else:
                self._file = TerminalBytes() if is_non_utf8_terminal() else sys.stdout.buffer
            if not (isinstance(self._file, pq.ParquetWriter) or self._json_lines):
                self._file.write(("\t".join(schema.names) + "\n").encode())
            self._stack = stack.pop_all()

    @property
    def is_stdout(self) -> bool:
        """Return True if the target is standard output."""
        return self._path is None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn failures to write within the block into an ``OutputError``."""
        with output_errors(self._name, f"{self._key}=FILE"):
            try:
                yield
            except OSError:
                if self._path is None:
                    _drop_stdout()
                raise

    def write(self, table: pa.Table) -> None:
        """Append rows.

        Raises:
            OutputError: the rows cannot be written.
            BrokenPipeError: the reader has closed the pipe.
        """
        with self._writing():
            if isinstance(self._file, pq.ParquetWriter):
                self._file.write_table(table)
            else:
                if self._json_lines:
                    lines = "".join(to_json(row) + "\n" for row in table.to_pylist())
                    self._file.write(lines.encode())
                else:
                    self._file.write(tsv_lines(table))
                if self._path is None:
                    self._file.flush()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        with self._writing():
            self._stack.__exit__(*error)


def _open(path: Path, suffix: str, schema: pa.Schema) -> Any:
    if suffix == ".parquet":
        return pq.ParquetWriter(path, schema, compression="zstd")
    return gzip.open(path, "wb", 6) if suffix == ".gz" else open(path, "wb")


def _drop_stdout() -> None:
    """Discard the buffer of standard output after a write error.

    Otherwise Python would write it again at exit, and print an error.
    """
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
