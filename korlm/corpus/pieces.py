"""Divide a corpus into pieces, each of which a worker reads on its own.

    find_sources -> plan_pieces -> [Piece]
    scan_piece (scan.py)     Piece -> PieceScan                 worker
    validate_corpus          all scans -> ContiguousSplit|None  driver; reports errors in the text
    starts_of (scan.py)      all scans -> PieceStart of each    driver
    read_piece (reader.py)   Piece, PieceStart -> lines         worker

All pieces together have exactly the lines of ``read_corpus``. How a corpus is divided depends only
on the names and sizes of its files and on the bytes around each cut.
"""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from korlm.config import CorpusFormat, DocumentUnit, Encoding, Quoting, TextConfig
from korlm.corpus.archives import file_version, is_member, open_file
from korlm.corpus.containers import file_errors
from korlm.corpus.files import CODECS, format_of, inspect_file, read_chunks
from korlm.corpus.formats.columns import row_groups
from korlm.corpus.records import FileRange
from korlm.corpus.sources import Source
from korlm.corpus.splits import SplitterState
from korlm.text.unicode import is_blank
from korlm.utils.errors import CorpusError

_CUT_BLOCK = 1 << 16  # bytes of a URL that are fetched around a cut
_TABLES = (CorpusFormat.tsv, CorpusFormat.csv)
_CONLL = (CorpusFormat.conll, CorpusFormat.conllu)
_DIVISIBLE = (CorpusFormat.txt, CorpusFormat.jsonl, CorpusFormat.parquet, *_TABLES, *_CONLL)


@dataclass(frozen=True)
class Piece:
    """A part of a corpus that one worker reads: whole files, or a range of one file."""

    number: int  # index of the piece in the corpus
    sources: tuple[Source, ...]  # a single one if the piece is a range
    begin: int = 0  # see ``FileRange``
    end: int | None = None

    @property
    def is_range(self) -> bool:
        """Return True if the piece is a part of a file."""
        return self.begin > 0 or self.end is not None

    def __str__(self) -> str:
        """Return the files and the range, for messages."""
        path = str(self.sources[0].path)
        if self.is_range:
            return f"{path} ({self.begin:,} to {f'{self.end:,}' if self.end else 'the end'})"
        more = len(self.sources) - 1
        return path + f" and {more} more file{'s' * (more > 1)}" * (more > 0)


@dataclass(frozen=True)
class PieceStart:
    """Counts of all that precedes a piece in its file."""

    lines: int = 0
    records: int = 0  # with ``corpus.document_unit=blank_line``, documents
    # Position in the ``ContiguousSplit``, which counts all files without a split.
    blocks: SplitterState = field(default_factory=SplitterState)


def plan_pieces(config: TextConfig, sources: list[Source], piece_bytes: int) -> list[Piece]:
    """Return the pieces of a corpus.

    Consecutive files are one piece if they have at most ``piece_bytes`` together (of Parquet,
    before compression). A file of at least twice that size is cut, at the ends of lines, records or
    documents, into pieces of at least ``piece_bytes``. Files that cannot be read from the middle
    stay whole: compressed ones, members of archives, UTF-16, lines that end at CR, JSON that is not
    JSON lines, Arrow, tables unless ``corpus.quoting=none``, and records whose documents
    ``corpus.document_column`` names: the rows of a document may be anywhere in the file, and its
    lines are numbered.

    Raises:
        CorpusError: a large file cannot be read.
    """
    parts: list[tuple[tuple[Source, ...], int, int | None]] = []
    size = piece_bytes  # size of the last piece; full, so that the first file begins a new one
    for source in sources:
        cuts = _cuts(config, source, piece_bytes) if source.size >= 2 * piece_bytes else []
        if cuts:
            size = piece_bytes
            for begin, end in zip([0, *cuts], [*cuts, None], strict=True):
                parts.append(((source,), begin, end))
        elif size + source.size <= piece_bytes:
            size += source.size
            parts[-1] = (*parts[-1][0], source), 0, None
        else:
            size = source.size
            parts.append(((source,), 0, None))
    return [Piece(number, *part) for number, part in enumerate(parts)]


def _cuts(config: TextConfig, source: Source, piece_bytes: int) -> list[int]:
    """Return where a large file is cut, in bytes or row groups; empty: it stays whole."""
    encoding = Encoding(config.encoding)
    file_format = format_of(source.path, config.format)
    if is_member(source.path) or file_format not in _DIVISIBLE:
        return []
    if config.document_column and file_format not in (CorpusFormat.txt, *_CONLL):
        return []
    if file_format is CorpusFormat.parquet:
        return _group_cuts(source.path, piece_bytes)
    if file_format in _TABLES and config.quoting is not Quoting.none:
        return []
    info = inspect_file(source.path, encoding, config.format)
    if not info.is_divisible:
        return []
    codec = CODECS[info.encoding]
    at_blank_lines = file_format in _CONLL or (
        file_format is CorpusFormat.txt and config.document_unit is DocumentUnit.blank_line
    )
    with file_errors(source.path), open_file(source.path, _CUT_BLOCK) as stream:
        cuts = [0]
        # The first record must lie in the first piece.
        first = next((stream.tell() for line in stream if _begins_text(line, codec)), source.size)
        while source.size - cuts[-1] >= 2 * piece_bytes:
            stream.seek(max(cuts[-1] + piece_bytes, first) - 1)
            stream.readline()
            cuts.append(_document_end(stream, codec) if at_blank_lines else stream.tell())
    return [cut for cut in cuts[1:] if cut < source.size]


def _begins_text(line: bytes, codec: str) -> bool:
    """Return True for a line that is neither blank nor, in CoNLL, a comment."""
    text = line.removeprefix(codecs.BOM_UTF8).decode(codec, errors="replace")
    return not line.startswith((b"#", b"-DOCSTART-")) and not is_blank(text)


def _document_end(stream: IO[bytes], codec: str) -> int:
    """Return the position of the next non-blank line that follows a blank one, or of the end."""
    after_blank = False
    while line := stream.readline():
        if is_blank(line.decode(codec, errors="replace")):
            after_blank = True
        elif after_blank:
            return stream.tell() - len(line)
    return stream.tell()


def _group_cuts(path: Path, piece_bytes: int) -> list[int]:
    """Return the first row group of each piece of a Parquet file, except the first piece."""
    cuts = []
    size = 0
    for number, (_, group_bytes) in enumerate(row_groups(path)):
        if size >= piece_bytes:
            cuts.append(number)
            size = 0
        size += group_bytes
    return cuts


def digest_of(config: TextConfig, piece: Piece) -> tuple[str, int]:
    """Return the BLAKE2b hash of the bytes of a piece, and the number of LF in them.

    Raises:
        CorpusError: a file cannot be read, or a Parquet file has fewer row groups than it had.
    """
    digests = []
    num_newlines = 0
    for source in piece.sources:
        digest = hashlib.blake2b(digest_size=16)
        part = _bytes_of(config, piece)
        with file_errors(source.path), open_file(source.path) as stream:
            stream.seek(part.begin)
            for block in read_chunks(stream, part):
                digest.update(block)
                num_newlines += block.count(b"\n")
        digests.append(digest.hexdigest())
    if len(digests) == 1:
        return digests[0], num_newlines
    return hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest(), num_newlines


def _bytes_of(config: TextConfig, piece: Piece) -> FileRange:
    """Return the range of a piece in bytes, also for Parquet."""
    path = piece.sources[0].path
    if not piece.is_range or format_of(path, config.format) is not CorpusFormat.parquet:
        return FileRange(piece.begin, piece.end)
    groups = row_groups(path)
    if max(piece.begin, piece.end or 0) >= len(groups):
        raise changed_file(path)
    begin = groups[piece.begin][0] if piece.begin else 0
    return FileRange(begin, None if piece.end is None else groups[piece.end][0])


def check_unchanged(piece: Piece) -> None:
    """Check that the files of a piece have not changed since they were found.

    Raises:
        CorpusError: a file has changed, or cannot be accessed.
    """
    for source in piece.sources:
        with file_errors(source.path):
            if source.version and file_version(source.path) != (source.size, source.version):
                raise changed_file(source.path)


def changed_file(path: Path) -> CorpusError:
    """Return the error for a file that was changed while korlm read it."""
    return CorpusError(f"{path}: has changed while it was read; run the command again")
