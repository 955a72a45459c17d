"""Journals: what a slow tokenizer has done of a shard that is not whole yet, one frame a batch.

    tokens/<split>-<number>.journal, frame after frame:
    length u32, CRC-32 u32, then as many bytes: hash of the batch's texts (16), an Arrow IPC stream

A frame reaches the system before the next batch is asked for, so that a killed process loses no
more than the batches that were in flight. Reading stops at the first frame that is cut, damaged or
of other text; the file is cut there and grows on. Whatever happens, no wrong frame is taken up.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from korlm.tokenizers.analysis import pack, unpack

_HEAD = struct.Struct("<II")


_KEY = 16


class Journal:
    """One journal, read from its beginning as long as it fits, and appended to from there on.

    Args:
        path: where it lies, or is to lie: it appears with the first frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Unbuffered: no bytes may wait in this process, not even those of a full disk.
        self._file = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115
        self._reads = True

    def read(self, texts: Sequence[str]) -> pa.RecordBatch | None:
        """The next batch if it is one of these texts; None from the first one on that is not."""
        if not self._reads:
            return None
        start = self._file.tell()
        columns = self._next(_digest(texts))
        if columns is None:
            self._reads = False
            self._file.seek(start)
            self._file.truncate()
        return columns

    def _next(self, key: bytes) -> pa.RecordBatch | None:
        head = self._file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        size, checksum = _HEAD.unpack(head)
        # A damaged length may ask for gigabytes.
        body = self._file.read(min(size, self.path.stat().st_size))
        if len(body) < size or zlib.crc32(body) != checksum or body[:_KEY] != key:
            return None
        return unpack(pa.py_buffer(body).slice(_KEY))

    def append(self, texts: Sequence[str], columns: pa.RecordBatch) -> None:
        """Adds a batch; raises OSError if it cannot, and what of it was written does no harm."""
        assert not self._reads
        body = _digest(texts) + pack(columns, compression="zstd")
        left = memoryview(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        while left:
            left = left[self._file.write(left) :]

    def close(self, delete: bool = False) -> None:
        """Closes the file; ``delete``: its shard is whole, nobody needs it any more."""
        self._file.close()
        if delete:
            self.path.unlink(missing_ok=True)


def _digest(texts: Sequence[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=_KEY)
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
