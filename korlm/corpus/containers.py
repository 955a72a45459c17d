"""Open plain and compressed files, and reject files that are not text.

Archives, office documents and other binary files are recognized by their first bytes (signature),
whatever their names are.
"""

from __future__ import annotations

import gzip
import io
import itertools
import lzma
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from korlm.corpus.archives import open_file
from korlm.utils.errors import CorpusError
from korlm.utils.io.urls import url_errors

STDIN = Path("<stdin>")  # standard input as a file of a corpus

# Ending of the file name -> compression.
PACKED = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bzip2"}
SIGNATURE_BYTES = 512  # length of the beginning of a file that has every signature
_COMPRESSIONS = {
    # The second of zstd is that of a skippable frame, which may come first.
    "gzip": re.compile(rb"\x1f\x8b"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    "xz": re.compile(rb"\xfd7zXZ\0"),
    # The letters, and the beginning of the first block or of the end: a text may begin with BZh9.
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
}
_ARCHIVE = "an archive ({}); unpack it and name the folder"

# Each has a byte that no text has there, except those of %PDF-, HWP and RTF.
_SIGNATURES = {
    b"PK\x03\x04": "a zip archive or an office document; name the archive FILE.zip, or save the "
    "document as text",
    b"PK\x05\x06": "an empty zip archive; leave it out",
    b"7z\xbc\xaf\x27\x1c": _ARCHIVE.format("7z"),
    b"Rar!\x1a\x07": _ARCHIVE.format("RAR"),
    b"ALZ\x01": _ARCHIVE.format("ALZip"),
    b"EGGA\0": _ARCHIVE.format("ALZip EGG"),
    b"\x1f\x9d": "compressed by compress; use gzip instead",
    b"\x04\x22\x4d\x18": "compressed by lz4; use gzip or zstd instead",
    b"%PDF-": "a PDF; save it as text first",
    b"\xd0\xcf\x11\xe0": "an office or HWP document; save it as text first",
    b"HWP Document File V": "an HWP document; save it as text first",
    b"{\\rtf": "an RTF document; save it as text first",
    b"PAR1\x15": "a Parquet file; give corpus.format=parquet",
    b"ARROW1\0": "an Arrow file; give corpus.format=arrow",
    b"SQLite format 3\0": "a SQLite database; save it as .jsonl or .tsv first",
}

_TAR = (257, b"ustar")  # position and signature


def check_signature(path: Path, head: bytes, compression: str = "") -> None:
    """Raise a ``CorpusError`` if the first bytes of a file show that it is not text.

    Args:
        path: the file.
        head: at least the first ``SIGNATURE_BYTES`` bytes, decompressed.
        compression: name of the compression; empty for a plain file.
    """
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            raise CorpusError(f"{path}: this is {kind}")
    if head.startswith(_TAR[1], _TAR[0]):
        kind = _ARCHIVE.format(f"tar, {compression}" if compression else "tar")
        raise CorpusError(f"{path}: this is {kind}, e.g. tar -xf {path}")
    if compression and (inner := _compression_of(head)):
        raise CorpusError(
            f"{path}: compressed twice, by {compression} and {inner}; decompress it once"
        )


@contextmanager
def opened(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name of the compression, empty for a plain file, and the decompressed stream.

    Raises:
        CorpusError: the file is missing or unreadable, cannot be decompressed, or is not text.
    """
    if path == STDIN:
        if sys.stdin is None:
            raise CorpusError(f"{path}: is closed; pipe a text into it, or name a file")
        with file_errors(path):
            yield _decompressed(path, sys.stdin.buffer)
        return
    with file_errors(path), open_file(path) as raw:
        yield _decompressed(path, raw)


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading a file within the block into ``CorpusError``."""
    try:
        with url_errors(path, CorpusError):
            yield
    except FileNotFoundError:
        raise CorpusError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise CorpusError(f"{path}: is a folder, not a file") from None
    except PermissionError:
        raise CorpusError(f"{path}: may not be read; change its permissions") from None
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError) as error:
        raise CorpusError(
            f"{path}: cannot be read or decompressed ({error}); copy it again or leave it out"
        ) from error


def _compression_of(head: bytes) -> str:
    """Return the name of the compression of a file, empty for a plain file."""
    return next((name for name, magic in _COMPRESSIONS.items() if magic.match(head)), "")


def _decompressed(path: Path, raw: Any) -> tuple[str, Any]:
    head, raw = _peek(raw)
    check_signature(path, head)
    compression = _compression_of(head)
    expected = PACKED.get(path.suffix.lower())
    if expected and head and compression != expected:
        actual = f"compressed by {compression}" if compression else "not compressed"
        raise CorpusError(f"{path}: named {path.suffix} but {actual}; rename or replace it")
    if compression == "gzip":
        return compression, gzip.GzipFile(fileobj=raw, mode="rb")
    if compression == "xz":
        return compression, io.BufferedReader(_Chunks(_decompress_xz(raw)))
    if compression:
        codec = {"bzip2": "bz2"}.get(compression, compression)
        return compression, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), codec)
    return compression, raw


def _peek(raw: Any) -> tuple[bytes, Any]:
    """Return the first bytes of a stream, and a stream that begins with them."""
    if raw.seekable():
        begin = raw.tell()
        head = raw.read(SIGNATURE_BYTES)
        raw.seek(begin)
        return head, raw
    head = b""
    while len(head) < SIGNATURE_BYTES and (data := raw.read(SIGNATURE_BYTES - len(head))):
        head += data
    rest = iter(lambda: raw.read(io.DEFAULT_BUFFER_SIZE), b"")
    return head, io.BufferedReader(_Chunks(itertools.chain([head], rest)))


def _decompress_xz(raw: Any) -> Iterator[bytes]:
    """Yield the decompressed bytes of one or more xz streams, each with zeros after it or not.

    ``LZMAFile`` ends without an error where a stream other than the first is damaged.

    Raises:
        EOFError: the last stream is cut off.
        lzma.LZMAError: a stream is damaged, or other bytes follow it.
    """
    data = raw.read(io.DEFAULT_BUFFER_SIZE)
    while data:
        stream = lzma.LZMADecompressor()
        yield stream.decompress(data, io.DEFAULT_BUFFER_SIZE)
        while not stream.eof:
            data = raw.read(io.DEFAULT_BUFFER_SIZE) if stream.needs_input else b""
            if stream.needs_input and not data:
                raise EOFError("the file ends within a compressed stream")
            yield stream.decompress(data, io.DEFAULT_BUFFER_SIZE)
        data = stream.unused_data or raw.read(io.DEFAULT_BUFFER_SIZE)
        num_zeros = 0
        while data.startswith(b"\0"):
            rest = data.lstrip(b"\0")
            num_zeros += len(data) - len(rest)
            data = rest or raw.read(io.DEFAULT_BUFFER_SIZE)
        if num_zeros % 4:
            raise lzma.LZMAError("the padding after a compressed stream is damaged")


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(filter(None, self._chunks), b"")
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
