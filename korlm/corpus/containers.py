"""What the bytes of a file are: text, packed text, or something that korlm does not read.

The content decides, not the name. An archive of several files and an office document are refused by
their names; reading one as text would give its headers as words.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from korlm.utils.errors import CorpusError

STDIN = Path("<stdin>")  # stands for the text that a command is given on standard input


# The packers, by the ending that they give to a name.
PACKED = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bzip2"}


SIGNATURE_BYTES = 512  # of a file that tell what it is


_PACKERS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}


_ARCHIVE = "an archive of files ({}); unpack it and give the folder"


_SIGNATURES = {
    b"PK\x03\x04": "a zip archive or an office document; unpack it and give the folder, or save "
    "it as text first",
    b"PK\x05\x06": "an empty zip archive; leave it out",
    b"7z\xbc\xaf\x27\x1c": _ARCHIVE.format("7z"),
    b"Rar!\x1a\x07": _ARCHIVE.format("RAR"),
    b"ALZ\x01": _ARCHIVE.format("ALZip"),
    b"EGGA": _ARCHIVE.format("ALZip EGG"),
    b"\x1f\x9d": "packed by compress; pack it with gzip instead",
    b"\x04\x22\x4d\x18": "packed by lz4; pack it with gzip or zstd instead",
    b"%PDF": "a PDF; save it as text first",
    b"\xd0\xcf\x11\xe0": "an office or HWP document; save it as text first",
    b"HWP Document File": "an HWP document; save it as text first",
    b"{\\rtf": "an RTF document; save it as text first",
    b"PAR1": "a Parquet file; save it as .jsonl or .tsv first",
    b"ARROW1": "an Arrow file; save it as .jsonl or .tsv first",
    b"SQLite format 3": "a SQLite database; save it as .jsonl or .tsv first",
}


_TAR = (257, b"ustar")


def check_signature(path: Path, head: bytes, packer: str = "") -> None:
    """Refuse a file whose first bytes say that it is no text.

    Args:
        path: of the file, for the message.
        head: its first ``SIGNATURE_BYTES`` bytes or more, unpacked.
        packer: that it was packed by, if any.

    Raises:
        CorpusError: naming what it is and what to do.
    """
    for signature, what in _SIGNATURES.items():
        if head.startswith(signature):
            raise CorpusError(f"{path}: this is {what}")
    if head.startswith(_TAR[1], _TAR[0]):
        kind = f"tar, packed by {packer}" if packer else "tar"
        raise CorpusError(f"{path}: this is {_ARCHIVE.format(kind)}, e.g. tar -xf {path}")
    if packer and (again := _packer_of(head)):
        raise CorpusError(f"{path}: is packed twice, by {packer} and {again}; unpack it once")


@contextmanager
def opened(path: Path) -> Iterator[tuple[str, Any]]:
    """Open a file for reading; a context manager of the packer's name and the unpacked stream.

    The name is empty for a file that is not packed.

    Raises:
        CorpusError: the file is missing or unreadable, cannot be unpacked, or is no text.
    """
    if path == STDIN:
        if sys.stdin is None:
            raise CorpusError(f"{path}: is closed; give it a text, or name a file")
        with _unpacking(path):
            yield _unpacked(path, sys.stdin.buffer)
        return
    with _unpacking(path), open(path, "rb") as raw:
        yield _unpacked(path, raw)


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise CorpusError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise CorpusError(f"{path}: is a folder, not a file") from None
    except PermissionError:
        raise CorpusError(f"{path}: may not be read; change its permissions") from None
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise CorpusError(f"{path}: cannot be read or unpacked ({error})") from error


def _packer_of(head: bytes) -> str:
    for signature, packer in _PACKERS.items():
        # Text may begin with these three letters.
        if head.startswith(signature) and (packer != "bzip2" or head[3:4].isdigit()):
            return packer
    return ""


def _unpacked(path: Path, raw: Any) -> tuple[str, Any]:
    head, raw = _peek(raw)
    check_signature(path, head)
    packer = _packer_of(head)
    named = PACKED.get(path.suffix.lower())
    if named and head and packer != named:
        what = f"is packed by {packer}" if packer else "is not packed"
        raise CorpusError(
            f"{path}: cannot be unpacked: it is named {path.suffix} but {what}; rename or mend it"
        )
    if packer == "gzip":
        return packer, gzip.GzipFile(fileobj=raw, mode="rb")
    if packer == "zstd":
        return packer, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    if packer == "xz":
        return packer, lzma.LZMAFile(raw)
    if packer == "bzip2":
        return packer, bz2.BZ2File(raw)
    return packer, raw


def _peek(raw: Any) -> tuple[bytes, Any]:
    """The first bytes of a stream, and the stream from its beginning."""
    if raw.seekable():
        begin = raw.tell()
        head = raw.read(SIGNATURE_BYTES)
        raw.seek(begin)
        return head, raw
    head = b""
    while len(head) < SIGNATURE_BYTES and (data := raw.read(SIGNATURE_BYTES - len(head))):
        head += data
    return head, io.BufferedReader(_Replayed(head, raw))


class _Replayed(io.RawIOBase):
    """A stream that cannot seek, with the bytes in front of it that were taken from it."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            self._head = self._rest.read(len(buffer))
        data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
