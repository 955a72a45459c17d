"""Append-only columns of numbers, in memory or in temporary files.

With a memory limit, all data whose size depends on the text is in files and read in blocks of rows.
The files are unlinked temporary files in ``tempfile.gettempdir()`` (``TMPDIR``), so nothing is left
behind however the process ends.
"""

from __future__ import annotations

import contextlib
import tempfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 1 << 21  # rows that are read at once; more are not faster
SORT_BYTES = 64  # of memory per row that is sorted
MIN_ROWS = 16

Array = npt.NDArray[Any]


class Columns:
    """Creates columns; a context manager that removes their files.

    Args:
        memory: bytes for the rows in memory; None: no limit, and no files.

    Attributes:
        sort_rows: rows that are sorted at once; None: all.
        block_rows: rows that are read at once.
    """

    def __init__(self, memory: int | None = None) -> None:
        self._on_disk = memory is not None
        rows = None if memory is None else max(MIN_ROWS, memory // SORT_BYTES)
        self.sort_rows = rows
        self.block_rows = BLOCK_ROWS if rows is None else min(rows, BLOCK_ROWS)
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Columns:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def new(self, dtype: npt.DTypeLike) -> Column:
        """Return an empty column."""
        if not self._on_disk:
            return Column(dtype)
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        return FileColumn(dtype, self._files.enter_context(file), self.block_rows)


class Column:
    """A 1-D array in memory. Arrays that it returns must not be modified."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._size = 0
        self._parts: list[Array] = []

    def __len__(self) -> int:
        return self._size

    def append(self, values: Array) -> None:
        """Append values, converted to the dtype of the column."""
        self._parts.append(np.ascontiguousarray(values, self.dtype))
        self._size += len(values)

    def read(self, begin: int = 0, end: int | None = None) -> Array:
        """Return the rows from ``begin`` to ``end`` - 1, or the last one."""
        if len(self._parts) != 1:
            self._parts = [np.concatenate([np.zeros(0, self.dtype), *self._parts])]
        return self._parts[0][begin:end]

    def take(self, rows: Array) -> Array:
        """Return the values of rows in any order."""
        taken: Array = self.read()[rows]
        return taken

    def close(self) -> None:
        """Free the memory, or the disk."""
        self._parts = []


class FileColumn(Column):
    """A 1-D array in an empty, unbuffered file, of which ``block_rows`` are read at once."""

    def __init__(self, dtype: npt.DTypeLike, file: IO[bytes], block_rows: int) -> None:
        super().__init__(dtype)
        self._file, self._block_rows = file, block_rows

    def append(self, values: Array) -> None:
        """See ``Column``."""
        data = _bytes_of(np.ascontiguousarray(values, self.dtype))
        self._file.seek(0, 2)
        while data:
            data = data[self._file.write(data) :]
        self._size += len(values)

    def read(self, begin: int = 0, end: int | None = None) -> Array:
        """See ``Column``."""
        begin, end, _ = slice(begin, end).indices(self._size)
        values = np.empty(max(end - begin, 0), self.dtype)
        data = _bytes_of(values)
        self._file.seek(begin * self.dtype.itemsize)
        while data:
            data = data[self._file.readinto(data) :]  # type: ignore[attr-defined]
        return values

    def take(self, rows: Array) -> Array:
        """See ``Column``; reads the file once, from its beginning to its end."""
        by_row = np.argsort(rows)
        ordered = rows[by_row]
        values = np.empty(len(rows), self.dtype)
        begin = 0
        while begin < len(ordered):
            first = int(ordered[begin])
            end = int(np.searchsorted(ordered, first + self._block_rows))
            block = self.read(first, int(ordered[end - 1]) + 1)
            values[by_row[begin:end]] = block[ordered[begin:end] - first]
            begin = end
        return values

    def close(self) -> None:
        """See ``Column``."""
        self._file.close()


def _bytes_of(values: Array) -> memoryview:
    """Return the memory of an array; an empty one has none."""
    return values.data.cast("B") if len(values) else memoryview(b"")
