"""Read text files: lines, rows of tables, records of JSON. All text of korlm is read here.

``inspect_file`` determines compression, encoding and format of a file, ``read_blocks`` reads lines,
``read_records`` reads rows and records.

A line ends at LF or CR LF; at CR only in files without LF in their first 64 KiB (classic Mac OS).
``str.splitlines`` would also split at VT, FF, U+0085 and U+2028, which Kkma treats as part of a
line. Errors are ``CorpusError`` with the file and, if known, the line and byte.
"""

from __future__ import annotations

import codecs
import itertools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.config import CorpusFormat, Encoding, TextConfig
from korlm.corpus.archives import open_file
from korlm.corpus.containers import (
    PACKED,
    SIGNATURE_BYTES,
    STDIN,
    check_signature,
    file_errors,
    opened,
)
from korlm.corpus.formats import columns
from korlm.corpus.formats.conll import read_conll
from korlm.corpus.formats.delimited import read_names, read_table
from korlm.corpus.formats.json_files import read_json, read_json_lines, read_keys
from korlm.corpus.records import WHOLE, FileRange, Notes, Record
from korlm.utils.errors import CorpusError

BLOCK = 1 << 20  # bytes read at a time
HEAD = 1 << 16  # bytes at the beginning of a file that are inspected

_FORMATS = {
    ".txt": CorpusFormat.txt,
    ".tsv": CorpusFormat.tsv,
    ".csv": CorpusFormat.csv,
    ".jsonl": CorpusFormat.jsonl,
    ".ndjson": CorpusFormat.jsonl,
    ".json": CorpusFormat.json,
    ".parquet": CorpusFormat.parquet,
    ".arrow": CorpusFormat.arrow,
    ".feather": CorpusFormat.arrow,
    ".conll": CorpusFormat.conll,
    ".conllu": CorpusFormat.conllu,
}

SUFFIXES = tuple(_FORMATS)
_COLUMNS = (CorpusFormat.parquet, CorpusFormat.arrow)

CODECS = {
    Encoding.utf8: "utf-8",
    Encoding.cp949: "cp949",
    Encoding.johab: "johab",
    Encoding.utf16: "utf-16-le",  # without a byte-order mark: as on Windows
    Encoding.utf16le: "utf-16-le",
    Encoding.utf16be: "utf-16-be",
}

_UTF16 = (Encoding.utf16, Encoding.utf16le, Encoding.utf16be)

_BOMS = {
    codecs.BOM_UTF8: Encoding.utf8,
    codecs.BOM_UTF16_LE: Encoding.utf16le,
    codecs.BOM_UTF16_BE: Encoding.utf16be,
}

_LONE_CR = re.compile(rb"\r(?!\n)")
_JSON = re.compile(rb'\s*(?:\[\s*)?\{\s*"[^"\n]*"\s*:')
_MARKUP = re.compile(rb"\s*<(?:\?xml|!doctype|html)\b", re.IGNORECASE)


@dataclass(frozen=True)
class FileFormat:
    """Compression and encoding of a file.

    The encoding is that of a byte-order mark, else of the settings; UTF-16 is converted to utf8.
    """

    compression: str  # empty for a plain file
    encoding: Encoding
    is_divisible: bool  # the file can be read from the beginning of any line on


@dataclass(frozen=True)
class _Text:
    """An open text file."""

    format: FileFormat
    bom_bytes: int  # length of the byte-order mark
    chunks: Iterator[bytes]  # the text after the mark, with lines that end at LF or CR LF


def format_of(path: Path, file_format: CorpusFormat = CorpusFormat.auto) -> CorpusFormat:
    """Return the format of a file: that of the settings, else of the file's ending, else txt."""
    if file_format is not CorpusFormat.auto:
        return file_format
    return _FORMATS.get(kind_of(path), CorpusFormat.txt)


def kind_of(path: Path) -> str:
    """Return the ending of a file name in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def inspect_file(
    path: Path, encoding: Encoding = Encoding.utf8, file_format: CorpusFormat = CorpusFormat.auto
) -> FileFormat:
    """Determine how a file has to be read; with ``file_format`` auto its content must fit its name.

    Standard input is not inspected, because it cannot be read twice.

    Raises:
        CorpusError: the file is missing, unreadable, an archive or binary, or contains JSON or
            markup although its ending is that of plain text.
    """
    actual = format_of(path, file_format)
    if path == STDIN or actual in _COLUMNS:
        return FileFormat("", encoding, False)
    with _text_of(path, encoding) as text:
        head, _ = _peek(text.chunks)
        if file_format is CorpusFormat.auto and actual is CorpusFormat.txt:
            for pattern, kind, advice in (
                (_JSON, "JSON", "give corpus.format=json, or"),
                (_MARKUP, "HTML or XML", "save it as text, or give"),
            ):
                if pattern.match(head):
                    raise CorpusError(
                        f"{path}: begins like {kind}, not like plain text; {advice} "
                        "corpus.format=txt to read it as text"
                    )
        return text.format


@contextmanager
def _text_of(path: Path, encoding: Encoding, part: FileRange = WHOLE) -> Iterator[_Text]:
    if part.begin:  # the file is divisible, and its beginning, which is far away, was inspected
        with file_errors(path), open_file(path) as stream:
            if encoding is not Encoding.utf8:
                encoding = _BOMS.get(_bom(stream.read(SIGNATURE_BYTES)), encoding)
            stream.seek(part.begin)
            yield _Text(FileFormat("", encoding, True), 0, read_chunks(stream, part))
        return
    with opened(path) as (compression, stream):
        head, chunks = _peek(read_chunks(stream, part))
        check_signature(path, head, compression)
        bom = _bom(head)
        if bom and head.startswith(codecs.BOM_UTF32_LE):
            raise CorpusError(f"{path}: is UTF-32; save it as UTF-8 first")
        encoding = _BOMS.get(bom, encoding)
        chunks = _skip_bytes(chunks, len(bom))
        if encoding in _UTF16:
            chunks = _to_utf8(path, chunks, encoding, len(bom))
        else:
            first = next(chunks, b"")
            if first.count(0) > len(first) // 100:
                raise CorpusError(
                    f"{path}: a binary file, not text; leave it out (UTF-16 without a byte-order "
                    "mark is read with corpus.encoding=utf16le or utf16be)"
                )
            chunks = itertools.chain([first], chunks)
        head, chunks = _peek(chunks)
        is_divisible = not compression and encoding not in _UTF16
        if b"\n" not in head and b"\r" in head[: HEAD - 1]:
            chunks, is_divisible = _cr_to_lf(chunks), False
        encoding = Encoding.utf8 if encoding in _UTF16 else encoding
        yield _Text(FileFormat(compression, encoding, is_divisible), len(bom), chunks)


def _bom(head: bytes) -> bytes:
    """Return the byte-order mark at the beginning of a file, empty if it has none."""
    return next((bom for bom in _BOMS if head.startswith(bom)), b"")


def read_chunks(stream: Any, part: FileRange = WHOLE) -> Iterator[bytes]:
    """Yield the bytes of a part of a file, from a stream that is at the beginning of the part."""
    size = sys.maxsize if part.end is None else part.end - part.begin
    while data := stream.read(min(BLOCK, size)):
        yield data
        size -= len(data)


def _peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first ``HEAD`` bytes, and all chunks, including the first ones."""
    first: list[bytes] = []
    size = 0
    while size < HEAD and (data := next(chunks, b"")):
        first.append(data)
        size += len(data)
    return b"".join(first)[:HEAD], itertools.chain(first, chunks)


def _skip_bytes(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield chunks without the first ``size`` bytes."""
    for data in chunks:
        if rest := data[size:]:
            yield rest
        size -= min(size, len(data))


def _to_utf8(
    path: Path, chunks: Iterator[bytes], encoding: Encoding, offset: int
) -> Iterator[bytes]:
    """Convert UTF-16 to UTF-8, in which a line end is a single byte.

    ``offset`` is the length of the byte-order mark, which the chunks lack.
    """
    codec = CODECS[encoding]
    decoder = codecs.getincrementaldecoder(codec)()
    for data in itertools.chain(chunks, [b""]):
        begin = offset - len(decoder.getstate()[0])
        offset += len(data)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{path}: byte {begin + error.start} of the file is not {codec}; "
                "corpus.encoding=utf8 is the default"
            ) from None
        if text:
            yield text.encode()


def _cr_to_lf(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Replace each CR that is not part of CR LF; byte offsets do not change."""
    rest = b""
    for data in chunks:
        data = rest + data
        rest = b"\r" if data.endswith(b"\r") else b""
        if ready := data[: len(data) - len(rest)]:
            yield _LONE_CR.sub(b"\n", ready)
    if rest:
        yield b"\n"


def _decode(path: Path, block: bytes, text: _Text, line: int, offset: int) -> str:
    """Decode a block of lines; ``line`` and ``offset`` are where it begins in the file."""
    encoding = text.format.encoding
    codec = CODECS[encoding]
    try:
        return block.decode(codec)
    except UnicodeDecodeError as error:
        line += block.count(b"\n", 0, error.start)
        column = error.start - (block.rfind(b"\n", 0, error.start) + 1) + 1
        column += text.bom_bytes if line == 1 else 0
        other = "corpus.encoding=utf8 is the default"
        if encoding is Encoding.utf8:
            other = "corpus.encoding=cp949 reads files of the old Windows encoding"
        raise CorpusError(
            f"{path}: line {line}, byte {column} (0x{block[error.start]:02x}, byte "
            f"{offset + error.start} of the file) is not {codec}; {other}"
        ) from None


def read_lines(
    path: Path, encoding: Encoding = Encoding.utf8, part: FileRange = WHOLE
) -> Iterator[str]:
    """Yield the lines of a text file; see ``read_blocks``."""
    return itertools.chain.from_iterable(read_blocks(path, encoding, part))


def read_blocks(
    path: Path, encoding: Encoding = Encoding.utf8, part: FileRange = WHOLE
) -> Iterator[list[str]]:
    """Yield the lines of a text file, or of a part of a divisible one, in blocks.

    They have no line ends and no byte-order mark. Memory holds one block or the longest line; no
    block is empty.

    Raises:
        CorpusError: the file is missing, unreadable, damaged, binary or wrongly encoded.
    """
    with _text_of(path, encoding, part) as text:
        line, offset = part.lines + 1, part.begin or text.bom_bytes
        rest: list[bytes] = []  # of a line that has not ended; adding up bytes would be quadratic
        for data in itertools.chain(text.chunks, [b""]):
            cut = data.rfind(b"\n") + 1
            if data and not cut:
                rest.append(data)
                continue
            block, rest = b"".join([*rest, data[:cut]]), [data[cut:]]
            if block:
                decoded = _decode(path, block, text, line, offset)
                lines = text_lines(decoded)
                if decoded.endswith("\n"):  # only the last block may lack it
                    lines.pop()
                yield lines
                line += block.count(b"\n")
                offset += len(block)


def read_records(
    path: Path, config: TextConfig, notes: Notes | None = None, part: FileRange = WHOLE
) -> Iterator[Record]:
    """Return an iterator of the rows of a table, the records of JSON or the sentences of CoNLL.

    Raises:
        CorpusError: see ``read_blocks``; or a column is missing or a row is broken.
    """
    notes = notes or Notes()
    encoding = Encoding(config.encoding)
    file_format = format_of(path, config.format)

    def read_first() -> Iterator[str]:
        return read_lines(path, encoding, WHOLE if part.begin else part)

    if file_format in _COLUMNS:
        return columns.read_table_file(path, config, file_format, notes, part)
    if file_format is CorpusFormat.json:
        return read_json(path, "\n".join(read_lines(path, encoding)), config, notes)
    lines = enumerate(read_lines(path, encoding, part), part.lines + 1)
    if file_format is CorpusFormat.jsonl:
        return read_json_lines(path, lines, config, notes)
    if file_format in (CorpusFormat.conll, CorpusFormat.conllu):
        return read_conll(path, lines, config, file_format, read_first if part.begin else None)
    rest = lines if part.begin else None
    return read_table(path, read_first, config, file_format, notes, rest)


def other_columns(path: Path, config: TextConfig) -> list[str]:
    """Return the columns of a file besides that of the text; none of a format without them.

    Of JSON, these are the keys of the first record. Standard input cannot be read twice: none.

    Raises:
        CorpusError: the beginning of the file cannot be read.
    """
    encoding, file_format = Encoding(config.encoding), format_of(path, config.format)
    if path == STDIN:
        return []
    if file_format in _COLUMNS:
        return columns.read_names(path, config, file_format)
    if file_format is CorpusFormat.json:
        return read_keys(path, "\n".join(read_lines(path, encoding)), config)
    if file_format is CorpusFormat.jsonl:
        return read_keys(path, enumerate(read_lines(path, encoding), 1), config)
    if file_format in (CorpusFormat.tsv, CorpusFormat.csv):
        return read_names(path, lambda: read_lines(path, encoding), config, file_format)
    return []


def text_lines(text: str) -> list[str]:
    """Split a text into lines, which end at LF or CR LF."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines
