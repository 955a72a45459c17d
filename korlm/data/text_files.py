"""Text files -> lines or rows: plain, .gz or .zst; UTF-8 or cp949; one block at a time.

A line ends at LF or CR LF and nowhere else: ``str.splitlines`` would also part lines at VT, FF,
U+0085 or U+2028, which Kkma reads as part of a line. Whatever cannot be read is a ``CorpusError``
that names the file, and the line and byte where there is one.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from korlm.config import Encoding, Layout
from korlm.errors import CorpusError

BLOCK = 1 << 20  # bytes read at once
SUFFIXES = (".txt", ".tsv", ".csv", ".jsonl")
PACKED = (".gz", ".zst")
STDIN = Path("<stdin>")  # stands for the text that a command is given on standard input
_CODECS = {Encoding.utf8: "utf-8", Encoding.cp949: "cp949"}
_SIGNATURES = {
    b"\xff\xfe": "UTF-16 text; turn it into UTF-8 first (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text; turn it into UTF-8 first (iconv -f UTF-16 -t UTF-8)",
    b"\x1f\x8b": "packed by gzip; give it the ending .gz",
    b"\x28\xb5\x2f\xfd": "packed by zstd; give it the ending .zst",
    b"PK\x03\x04": "a zip archive or an office document; save it as text first",
    b"%PDF": "a PDF; save it as text first",
    b"\xd0\xcf\x11\xe0": "an office or HWP document; save it as text first",
    b"PAR1": "a Parquet file; save it as .jsonl or .tsv first",
}
_SURROGATE = re.compile("[\ud800-\udfff]")


def layout_of(path: Path, layout: Layout = Layout.auto) -> Layout:
    """How a file is laid out: as it was told, else as its ending says, else plain text."""
    if layout is not Layout.auto:
        return layout
    return {f".{kind.value}": kind for kind in Layout}.get(kind_of(path), Layout.txt)


def kind_of(path: Path) -> str:
    """The ending that tells how a file is laid out, a packer's ending left aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a file for reading, unpacked; any failure becomes a ``CorpusError``."""
    if path == STDIN:
        if sys.stdin is None:
            raise CorpusError(f"{path}: is closed; give it a text, or name a file")
        yield sys.stdin.buffer
        return
    try:
        with open(path, "rb") as raw:
            if path.suffix.lower() == ".gz":
                yield gzip.GzipFile(fileobj=raw)
            elif path.suffix.lower() == ".zst":
                yield pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
            else:
                yield raw
    except FileNotFoundError:
        raise CorpusError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise CorpusError(f"{path}: is a folder, not a file") from None
    except PermissionError:
        raise CorpusError(f"{path}: may not be read; change its permissions") from None
    except (EOFError, zlib.error, OSError) as error:
        raise CorpusError(f"{path}: cannot be read or unpacked ({error})") from error


def _refuse_binary(path: Path, head: bytes) -> None:
    for signature, what in _SIGNATURES.items():
        if head.startswith(signature):
            raise CorpusError(f"{path}: this is {what}")
    if head.count(0) > len(head) // 100:
        raise CorpusError(f"{path}: a binary file, not text; leave it out")


def _decode(path: Path, block: bytes, encoding: Encoding, line: int, offset: int) -> str:
    try:
        return block.decode(_CODECS[encoding])
    except UnicodeDecodeError as error:
        line += block.count(b"\n", 0, error.start)
        column = error.start - (block.rfind(b"\n", 0, error.start) + 1) + 1
        other = {
            Encoding.utf8: "corpus.encoding=cp949 reads files of the old Windows encoding",
            Encoding.cp949: "corpus.encoding=utf8 is the default",
        }[encoding]
        raise CorpusError(
            f"{path}: line {line}, byte {column} (0x{block[error.start]:02x}, byte "
            f"{offset + error.start} of the file) is not {_CODECS[encoding]}; {other}"
        ) from None


def read_lines(path: Path, encoding: Encoding = Encoding.utf8) -> Iterator[str]:
    """The lines of a text file one by one, as ``read_blocks`` gives them."""
    return itertools.chain.from_iterable(read_blocks(path, encoding))


def read_blocks(path: Path, encoding: Encoding = Encoding.utf8) -> Iterator[list[str]]:
    """The lines of a text file without their ends; a byte-order mark at the start is dropped.

    Reads a block at a time and gives its lines together, never none, so that memory holds one block
    or the longest line.

    Raises:
        CorpusError: the file is missing, unreadable, damaged, binary or wrongly encoded.
    """
    line, offset, rest = 1, 0, b""
    with opened(path) as stream:
        first = True
        while True:
            data = stream.read(BLOCK)
            if offset == len(rest) == 0:
                _refuse_binary(path, data)
            block = rest + data
            if data:
                cut = block.rfind(b"\n") + 1
                block, rest = block[:cut], block[cut:]
            if block:
                text = _decode(path, block, encoding, line, offset)
                if first and encoding is Encoding.utf8:
                    text = text.removeprefix("\ufeff")
                first = False
                lines = text_lines(text)
                if not text or text.endswith("\n"):  # not so at the end of a file that has none
                    lines.pop()
                if lines:
                    yield lines
                line += block.count(b"\n")
                offset += len(block)
            if not data:
                return


def read_records(
    path: Path,
    encoding: Encoding,
    text_column: str,
    document_column: str,
    layout: Layout = Layout.auto,
) -> Iterator[tuple[str, str]]:
    """The rows of a .tsv, .csv or .jsonl file as (text, document), in file order.

    Args:
        path: the file.
        encoding: of the file.
        text_column: name of the column or key of the text; a number counts columns from 1 in a
            .tsv or .csv file that has no header.
        document_column: the same for what tells documents apart; empty: nothing does.
        layout: tsv, csv or jsonl; auto: as the file's ending says.

    Raises:
        CorpusError: as ``read_lines``; a column is missing or a row is broken.
    """
    lines = read_lines(path, encoding)
    layout = layout_of(path, layout)
    if layout is Layout.jsonl:
        yield from _read_jsonl(path, lines, text_column, document_column)
        return
    rows: Iterator[list[str]]
    if layout is Layout.tsv:
        rows = (line.split("\t") for line in lines)
    else:
        csv.field_size_limit(1 << 30)
        # Strict: a quote that is never closed would swallow all that follows.
        rows = csv.reader((line + "\n" for line in lines), strict=True)
    numbers = itertools.count(1)
    try:
        header = None
        if not text_column.isdecimal():
            next(numbers)
            header = next(rows, [])
        text_at = _column(path, header, text_column, "text_column")
        document_at = (
            _column(path, header, document_column, "document_column") if document_column else None
        )
        needed = max(text_at, document_at if document_at is not None else 0) + 1
        for number, row in zip(numbers, rows):  # noqa: B905 - the numbers do not end
            if not row or row == [""]:
                continue
            if len(row) < needed:
                raise CorpusError(
                    f"{path}: row {number} has {len(row)} columns, {needed} are needed"
                )
            yield row[text_at], row[document_at] if document_at is not None else ""
    except csv.Error as error:
        raise CorpusError(f"{path}: row {next(numbers) - 1}: {error}") from None


def _column(path: Path, header: list[str] | None, name: str, key: str) -> int:
    if header is None:
        if not name.isdecimal() or int(name) < 1:
            raise CorpusError(
                f"{path}: corpus.{key}={name} must be a number from 1 on, as corpus.text_column is "
                "a number"
            )
        return int(name) - 1
    if name not in header:
        raise CorpusError(
            f"{path}: has no column {name!r}, only {', '.join(header) or 'an empty first line'}; "
            f"give corpus.{key}=NAME, or its number if the file has no header"
        )
    return header.index(name)


def _read_jsonl(
    path: Path, lines: Iterable[str], text_key: str, document_key: str
) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{path}: line {number} is not JSON ({error})") from None
        document = (
            _value(path, number, record, document_key, "document_column") if document_key else ""
        )
        yield _value(path, number, record, text_key, "text_column"), document


def _value(path: Path, number: int, record: Any, key: str, setting: str) -> str:
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, (str, int)):
        found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise CorpusError(
            f"{path}: line {number} has no text under {key!r} (it has {found}); "
            f"give corpus.{setting}=KEY"
        )
    # JSON can spell half a surrogate pair, which no UTF-8 file can hold.
    return _SURROGATE.sub("\ufffd", str(value))


def has_half_characters(text: str) -> bool:
    """Whether a text holds half a surrogate pair, which no UTF-8 file can hold."""
    return _SURROGATE.search(text) is not None


def text_lines(text: str) -> list[str]:
    """The lines of a text that came whole, by the same rule as ``read_blocks``."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines
