"""Divides a corpus into pieces, each of which a worker reads on its own.

    find_sources -> plan_pieces -> [Piece]
    scan_piece (scan.py)     Piece -> PieceScan               worker
    validate_corpus          all scans -> BlockSplit or None  driver; reports errors in the text
    starts_of (scan.py)      all scans -> PieceStart of each  driver
    read_piece (reader.py)   Piece, PieceStart -> lines       worker

All lines of all pieces are those of ``read_corpus``. The plan depends on the names and sizes of the
files and on the bytes around a cut.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from korlm.config import TextConfig
from korlm.corpus.archives import open_file
from korlm.corpus.containers import file_errors
from korlm.corpus.sources import Source
from korlm.corpus.splits import BlockState


@dataclass(frozen=True)
class Piece:
    """What a worker reads: whole files, or a range of one file.

    Attributes:
        number: in the order of the corpus, from 0.
        sources: the files; one if it is a range.
        begin: of the range, in bytes; in row groups of Parquet, in record batches of Arrow.
        end: of the range; None: the end of the file.
    """

    number: int
    sources: tuple[Source, ...]
    begin: int = 0
    end: int | None = None

    @property
    def is_range(self) -> bool:
        """Return whether the piece is a part of a file."""
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
    """What lies before a piece; all counts are of the same file.

    Attributes:
        lines: before the piece.
        records: before the piece; documents, if ``corpus.document_unit=blank_line``.
        document: ``doc_id`` of the last record, if a column names the documents.
        document_lines: of that document.
        blocks: where ``BlockSplit`` stands, over all files without a split.
    """

    lines: int = 0
    records: int = 0
    document: str = ""
    document_lines: int = 0
    blocks: BlockState = field(default_factory=BlockState)


def plan_pieces(config: TextConfig, sources: list[Source], piece_bytes: int) -> list[Piece]:
    """Return the pieces of a corpus.

    Consecutive files are one piece while they have at most ``piece_bytes`` together.

    Args:
        config: how to read the files.
        sources: the files.
        piece_bytes: size of a piece.
    """
    pieces: list[Piece] = []
    group: list[Source] = []

    def end_group() -> None:
        if group:
            pieces.append(Piece(len(pieces), tuple(group)))
            group.clear()

    size = 0
    for source in sources:
        if group and size + source.size > piece_bytes:
            end_group()
        size = source.size + (size if group else 0)
        group.append(source)
    end_group()
    return pieces


def digest_of(piece: Piece) -> tuple[str, int]:
    """Return the hash (BLAKE2b) of the bytes of a piece, and the number of line ends in them.

    Raises:
        CorpusError: a file cannot be read.
    """
    digests = []
    num_newlines = 0
    for source in piece.sources:
        digest = hashlib.blake2b(digest_size=16)
        with file_errors(source.path), open_file(source.path) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                num_newlines += block.count(b"\n")
        digests.append(digest.hexdigest())
    if len(digests) == 1:
        return digests[0], num_newlines
    return hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest(), num_newlines
