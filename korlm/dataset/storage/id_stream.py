"""Read the token ids of a split, in one or several memory-mapped files, as one stream."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ids = npt.NDArray[np.integer[Any]]  # uint16 or uint32 on disk, see vocab.id_dtype
Int64 = npt.NDArray[np.int64]


class IdStream:
    """Arrays of the same dtype, at least one, seen as one 1-D array without copying them.

    NumPy functions accept a stream as an array, but copy all of it.

    >>> stream = IdStream([np.array([4, 5, 3]), np.array([6, 3])])
    >>> len(stream), stream[1:4].tolist(), stream.rows(np.array([0, 2]), 3).tolist()
    (5, [5, 3, 6], [[4, 5, 3], [3, 6, 3]])

    Raises:
        ValueError: the dtypes differ.
    """

    def __init__(self, shards: Sequence[Ids]) -> None:
        # A view is indexed faster than a memory map and keeps it open.
        self.shards = [np.asarray(shard) for shard in shards]
        self.dtype = self.shards[0].dtype
        if any(shard.dtype != self.dtype for shard in self.shards):
            dtypes = ", ".join(sorted({str(shard.dtype) for shard in self.shards}))
            raise ValueError(f"shards of one stream have several dtypes: {dtypes}")
        self._ends = list(itertools.accumulate(map(len, shards)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, span: slice) -> Ids:
        """Return a range: a view within a shard, else a copy."""
        begin, end, step = span.indices(len(self))
        if step != 1:
            raise ValueError("a range of a stream has the step 1")
        shard = bisect.bisect_right(self._ends, begin)
        parts = []
        while begin < end:
            offset = self._ends[shard] - len(self.shards[shard])
            parts.append(self.shards[shard][begin - offset : end - offset])
            begin, shard = self._ends[shard], shard + 1
        return parts[0] if len(parts) == 1 else np.concatenate([self.shards[0][:0], *parts])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Ids:
        if copy is False:
            raise ValueError("a stream becomes one array only by a copy")
        return np.concatenate(self.shards, dtype=dtype, casting="unsafe")

    def rows(self, starts: Int64, size: int) -> Ids:
        """Return ranges of the same size; see ``rows_of``."""
        rows = np.zeros((len(starts), size), dtype=self.dtype)
        for row, begin in zip(rows, starts.tolist(), strict=True):
            shard = bisect.bisect_right(self._ends, begin)
            if begin >= 0 and shard < len(self._ends) and begin + size <= self._ends[shard]:
                offset = begin - self._ends[shard] + len(self.shards[shard])
                row[:] = self.shards[shard][offset : offset + size]
            else:
                part = self[max(begin, 0) : max(begin + size, 0)]
                column = max(-begin, 0)
                row[column : column + len(part)] = part
        return rows


def map_shard(path: Path) -> Ids:
    """Return the array of a .npy file, memory-mapped and read-only.

    Unlike NumPy's, the map keeps no file open: a corpus may have more shards than a process may
    open files.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, or no array of version 1.0.
    """
    with open(path, "rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("not an array of version 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    with pa.memory_map(str(path)) as mapped:
        buffer = mapped.read_buffer()
    ids: Ids = np.frombuffer(buffer, dtype, offset=offset).reshape(shape)
    return ids


def join_shards(shards: Sequence[Ids]) -> Ids | IdStream:
    """Return shards, at least one, as one stream; a single one as it is."""
    return shards[0] if len(shards) == 1 else IdStream(shards)


def blocks_of(ids: Ids | IdStream) -> Iterator[Ids]:
    """Yield consecutive parts of a stream, each without copying."""
    yield from ids.shards if isinstance(ids, IdStream) else [ids]


def rows_of(ids: Ids | IdStream, starts: Int64, size: int) -> Ids:
    """Return ranges of a stream, (B, ``size``); values beyond its ends are arbitrary.

    ``starts``, (B,), are the indices of the first id of each row, and may be negative.
    """
    if isinstance(ids, IdStream):
        return ids.rows(starts, size)
    index = starts[:, None] + np.arange(size)
    rows: Ids = ids[np.clip(index, 0, len(ids) - 1)]
    return rows
