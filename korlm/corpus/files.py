r"""Text files -> lines or rows, one block at a time: the one gate that every text comes through.

``inspect_file`` looks at a file once: packed or plain (``korlm.corpus.containers``), byte-order
mark and encoding, line ends, and whether the content is what its ending says. ``read_blocks``
gives the
lines, ``read_records`` the rows of tables and JSON.

A line ends at LF or CR LF; at CR only in files without any LF near their beginning, as old Macs
wrote them. ``str.splitlines`` would also part lines at VT, FF, U+0085 or U+2028, which Kkma reads
as part of a line. Whatever cannot be read is a ``CorpusError`` that names the file, and the line
and byte where there is one.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.config import CorpusFormat, Encoding, Quoting, Separator
from korlm.corpus.containers import PACKED, STDIN, check_signature, opened
from korlm.corpus.delimited import TableFormat, read_table
from korlm.corpus.json_files import JsonKeys, read_json, read_json_lines
from korlm.corpus.notes import Notes
from korlm.text.unicode import has_half_characters
from korlm.utils.errors import CorpusError

__all__ = [
    "PACKED",
    "STDIN",
    "SUFFIXES",
    "FileFormat",
    "has_half_characters",
    "inspect_file",
    "kind_of",
    "layout_of",
    "read_blocks",
    "read_lines",
    "read_records",
    "text_lines",
]


BLOCK = 1 << 20  # bytes read at once


HEAD = 1 << 16  # bytes at the beginning that decide how a file is read


_LAYOUTS = {
    ".txt": CorpusFormat.txt,
    ".tsv": CorpusFormat.tsv,
    ".csv": CorpusFormat.csv,
    ".jsonl": CorpusFormat.jsonl,
    ".ndjson": CorpusFormat.jsonl,
    ".json": CorpusFormat.json,
}


SUFFIXES = tuple(_LAYOUTS)


_CODECS = {
    Encoding.utf8: "utf-8",
    Encoding.cp949: "cp949",
    Encoding.johab: "johab",
    Encoding.utf16: "utf-16-le",  # without a byte-order mark: as Windows writes it
    Encoding.utf16le: "utf-16-le",
    Encoding.utf16be: "utf-16-be",
}


_WIDE = (Encoding.utf16, Encoding.utf16le, Encoding.utf16be)


_MARKS = {
    codecs.BOM_UTF8: Encoding.utf8,
    codecs.BOM_UTF16_LE: Encoding.utf16le,
    codecs.BOM_UTF16_BE: Encoding.utf16be,
}


_LONE_CR = re.compile(rb"\r(?!\n)")


_JSON = re.compile(rb'\s*(?:\[\s*)?\{\s*"[^"\n]*"\s*:')


_MARKUP = re.compile(rb"\s*<(?:\?xml|!doctype|html)\b", re.IGNORECASE)


@dataclass(frozen=True)
class FileFormat:
    """What a look at the beginning of a file tells.

    Attributes:
        packer: that it is packed by; empty: it is plain.
        encoding: as its byte-order mark says, else as the settings say.
        layout: how its text is laid out, never auto.
    """

    packer: str
    encoding: Encoding
    layout: CorpusFormat


@dataclass(frozen=True)
class _Text:
    """An opened text: its bytes behind the byte-order mark, in ``encoding``, with LF line ends."""

    packer: str
    encoding: Encoding
    mark_bytes: int
    chunks: Iterator[bytes]


def layout_of(path: Path, layout: CorpusFormat = CorpusFormat.auto) -> CorpusFormat:
    """Return how a file is laid out: as the settings say, else as its ending says, else text."""
    if layout is not CorpusFormat.auto:
        return layout
    return _LAYOUTS.get(kind_of(path), CorpusFormat.txt)


def kind_of(path: Path) -> str:
    """Return the ending that tells how a file is laid out, a packer's ending left aside."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def inspect_file(
    path: Path, encoding: Encoding = Encoding.utf8, layout: CorpusFormat = CorpusFormat.auto
) -> FileFormat:
    """Look at the beginning of a file and decide how it is read.

    Args:
        path: the file; of standard input, which cannot be read twice, nothing is looked at.
        encoding: where no byte-order mark says otherwise.
        layout: of the file; auto: as its ending says, and then the content must not contradict.

    Raises:
        CorpusError: the file is missing, unreadable, an archive, binary, or holds JSON or markup
            although its name says plain text.
    """
    found = layout_of(path, layout)
    if path == STDIN:
        return FileFormat("", encoding, found)
    with _text_of(path, encoding) as text:
        head, _ = _peek(text.chunks)
        if layout is CorpusFormat.auto and found is CorpusFormat.txt:
            for pattern, what, advice in (
                (_JSON, "JSON", "give corpus.format=json, or"),
                (_MARKUP, "HTML or XML", "save it as text, or give"),
            ):
                if pattern.match(head):
                    raise CorpusError(
                        f"{path}: begins as {what}, which is not plain text; {advice} "
                        "corpus.format=txt to read its marks as text"
                    )
        return FileFormat(text.packer, text.encoding, found)


@contextmanager
def _text_of(path: Path, encoding: Encoding) -> Iterator[_Text]:
    with opened(path) as (packer, stream):
        head, chunks = _peek(_chunks(stream))
        check_signature(path, head, packer)
        mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
        if mark and head.startswith(codecs.BOM_UTF32_LE):
            raise CorpusError(f"{path}: is UTF-32; save it as UTF-8 first")
        encoding = _MARKS.get(mark, encoding)
        chunks = _behind(chunks, len(mark))
        if encoding in _WIDE:
            chunks = _to_utf8(path, chunks, encoding, len(mark))
        else:
            first = next(chunks, b"")
            if first.count(0) > len(first) // 100:
                raise CorpusError(
                    f"{path}: a binary file, not text; leave it out (UTF-16 without a byte-order "
                    "mark is read with corpus.encoding=utf16le or utf16be)"
                )
            chunks = itertools.chain([first], chunks)
        head, chunks = _peek(chunks)
        if b"\n" not in head and b"\r" in head[: HEAD - 1]:
            chunks = _cr_to_lf(chunks)
        yield _Text(packer, Encoding.utf8 if encoding in _WIDE else encoding, len(mark), chunks)


def _chunks(stream: Any) -> Iterator[bytes]:
    while data := stream.read(BLOCK):
        yield data


def _peek(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first ``HEAD`` bytes, and all chunks from the first one on."""
    held: list[bytes] = []
    size = 0
    while size < HEAD and (data := next(chunks, b"")):
        held.append(data)
        size += len(data)
    return b"".join(held)[:HEAD], itertools.chain(held, chunks)


def _behind(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Chunks without the first bytes."""
    for data in chunks:
        if rest := data[size:]:
            yield rest
        size -= min(size, len(data))


def _to_utf8(
    path: Path, chunks: Iterator[bytes], encoding: Encoding, offset: int
) -> Iterator[bytes]:
    """UTF-16 as UTF-8, whose line ends single bytes tell."""
    codec = _CODECS[encoding]
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
    """CR as LF, and CR LF as it is, so that places in the file stay the same."""
    held = b""
    for data in chunks:
        data = held + data
        held = b"\r" if data.endswith(b"\r") else b""
        if ready := data[: len(data) - len(held)]:
            yield _LONE_CR.sub(b"\n", ready)
    if held:
        yield b"\n"


def _decode(path: Path, block: bytes, text: _Text, line: int, offset: int) -> str:
    codec = _CODECS[text.encoding]
    try:
        return block.decode(codec)
    except UnicodeDecodeError as error:
        line += block.count(b"\n", 0, error.start)
        column = error.start - (block.rfind(b"\n", 0, error.start) + 1) + 1
        column += text.mark_bytes if line == 1 else 0
        if text.encoding is Encoding.utf8:
            other = "corpus.encoding=cp949 reads files of the old Windows encoding"
        else:
            other = "corpus.encoding=utf8 is the default"
        raise CorpusError(
            f"{path}: line {line}, byte {column} (0x{block[error.start]:02x}, byte "
            f"{offset + error.start} of the file) is not {codec}; {other}"
        ) from None


def read_lines(path: Path, encoding: Encoding = Encoding.utf8) -> Iterator[str]:
    """Return the lines of a text file one by one, as ``read_blocks`` gives them."""
    return itertools.chain.from_iterable(read_blocks(path, encoding))


def read_blocks(path: Path, encoding: Encoding = Encoding.utf8) -> Iterator[list[str]]:
    """Read the lines of a text file without their ends; a byte-order mark at the start is dropped.

    Reads a block at a time and gives its lines together, never none, so that memory holds one block
    or the longest line.

    Raises:
        CorpusError: the file is missing, unreadable, damaged, binary or wrongly encoded.
    """
    with _text_of(path, encoding) as text:
        line, offset, rest = 1, text.mark_bytes, b""
        for data in itertools.chain(text.chunks, [b""]):
            block = rest + data
            if data:
                cut = block.rfind(b"\n") + 1
                block, rest = block[:cut], block[cut:]
            if block:
                decoded = _decode(path, block, text, line, offset)
                lines = text_lines(decoded)
                if decoded.endswith("\n"):  # not so at the end of a file that has none
                    lines.pop()
                yield lines
                line += block.count(b"\n")
                offset += len(block)


def read_records(
    path: Path,
    encoding: Encoding,
    text_column: str,
    document_column: str,
    layout: CorpusFormat = CorpusFormat.auto,
    separator: Separator = Separator.auto,
    quoting: Quoting = Quoting.auto,
    skip_without_text: bool = False,
    notes: Notes | None = None,
) -> Iterator[tuple[str, str]]:
    """Read the rows of a table or the records of JSON as (text, document), in file order.

    Args:
        path: the file.
        encoding: of the file.
        text_column: name of the column, or path of keys, of the text; a number counts columns from
            1 in a table that has no header.
        document_column: the same for what tells documents apart; empty: nothing does.
        layout: tsv, csv, jsonl or json; auto: as the file's ending says.
        separator: of the columns of a table.
        quoting: what quotes mean in a table.
        skip_without_text: leave out values of JSON that are no strings.
        notes: what is remarkable is counted there.

    Raises:
        CorpusError: as ``read_lines``; a column is missing or a row is broken.
    """
    notes = notes or Notes()
    layout = layout_of(path, layout)
    if layout in (CorpusFormat.json, CorpusFormat.jsonl):
        keys = JsonKeys(text_column, document_column, skip_without_text)
        lines = read_lines(path, encoding)
        if layout is CorpusFormat.jsonl:
            return read_json_lines(path, lines, keys, notes)
        return read_json(path, "\n".join(lines), keys, notes)
    table = TableFormat(text_column, document_column, layout, separator, quoting)
    return read_table(path, lambda: read_lines(path, encoding), table, notes, path != STDIN)


def text_lines(text: str) -> list[str]:
    """Return the lines of a text that came whole, by the same rule as ``read_blocks``."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines
