"""Scan pieces of a corpus: counts, errors and remarks, found before any slow work begins."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections import Counter
from dataclasses import dataclass, field

from korlm.config import CorpusConfig, CorpusFormat, DocumentUnit
from korlm.config.metrics import SPLITS
from korlm.corpus.files import format_of
from korlm.corpus.normalization import INVISIBLE, has_text
from korlm.corpus.pieces import Piece, PieceStart, check_unchanged, digest_of
from korlm.corpus.reader import read_source, splits_of_lines
from korlm.corpus.records import LineBlock, Notes
from korlm.corpus.sources import Source
from korlm.corpus.splits import ContiguousSplit, ContiguousSplitter, SplitterState
from korlm.text.unicode import is_blank
from korlm.utils.errors import CorpusError

MAX_DOCUMENTS = 100  # more documents of a piece are not counted: only few ones are an error


@dataclass
class PieceScan:
    """Counts of a piece; characters include one for each line end.

    ``undivided`` lines are those with text of sources without a split.
    """

    error: str = ""  # why the text cannot be read; then all counts are 0
    digest: str = ""  # hash of the bytes (``digest_of``)
    num_chars: int = 0
    num_newlines: int = 0  # LF in the bytes of the piece
    num_records: int = 0  # of the last file; of a .txt file, its documents
    num_documents: int = 0  # with undivided lines, at most ``MAX_DOCUMENTS``; for messages
    splits: list[str] = field(default_factory=list)  # that have text
    undivided_chars: int = 0
    undivided_lines: int = 0
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)  # see ``Notes.counts``
    invisible: dict[str, int] = field(default_factory=dict)  # invisible character -> count
    first_invisible: str = ""  # document of the first one


def scan_piece(config: CorpusConfig, piece: Piece, start: PieceStart | None = None) -> PieceScan:
    """Read a piece, and return its counts.

    If ``start`` is unknown, the locations in errors and notes are relative to the piece; all other
    values are the same.
    """
    try:
        start = start or PieceStart()
        scanner = _Scanner(config, piece)
        for source in piece.sources:
            known = _with_split(config, source)
            for block in read_source(config, known, piece, start, scanner.notes):
                scanner.add(source, block)
        return scanner.finish()
    except CorpusError as error:
        return PieceScan(error=str(error))


class _Scanner:
    """Counts a piece block by block."""

    def __init__(self, config: CorpusConfig, piece: Piece) -> None:
        self.notes = Notes()
        self._config, self._piece, self._scan = config, piece, PieceScan()
        self._is_text = format_of(piece.sources[0].path, config.format) is CorpusFormat.txt
        self._splits: set[str] = set()
        self._hashed: set[str] = set()  # splits of lines that are documents
        self._num_hashed = 1 + (config.valid_fraction > 0) + (config.test_fraction > 0)
        self._documents: set[str] = set()
        self._last_document = ""
        self._invisible: Counter[str] = Counter()

    def add(self, source: Source, block: LineBlock) -> None:
        """Count a block of lines of a source."""
        scan, texts = self._scan, block.texts
        joined = "\n".join(texts)
        scan.num_chars += len(joined) + 1
        characters = [] if joined.isascii() else INVISIBLE.findall(joined)
        # A line that may have invisible characters takes longer to check.
        is_empty = (lambda text: not has_text(text)) if characters else is_blank
        is_hashed = block.are_documents and source.split is None
        if not is_hashed and block.split not in self._splits and not all(map(is_empty, texts)):
            self._splits.add(block.split)
        is_new, self._last_document = block.document != self._last_document, block.document
        scan.num_records += len(texts) if block.are_documents else is_new if self._is_text else 1
        if source.split is None:
            self._add_undivided(block, list(itertools.filterfalse(is_empty, texts)))
        if "\r" in joined:
            remark = "carriage returns within lines, read as blanks"
            line = next(i for i, text in enumerate(texts) if "\r" in text)
            self.notes.add(remark, block.doc_id(line), joined.count("\r"))
        if characters:
            self._invisible.update(characters)
            if not scan.first_invisible:
                line = next(i for i, text in enumerate(texts) if INVISIBLE.search(text))
                scan.first_invisible = block.doc_id(line)

    def _add_undivided(self, block: LineBlock, filled: list[str]) -> None:
        """Count a block of a source without a split; ``filled`` are its lines with text."""
        self._scan.undivided_chars += sum(map(len, filled)) + len(filled)
        self._scan.undivided_lines += len(filled)
        if block.are_documents and len(self._hashed) < self._num_hashed:
            self._hashed.update(splits_of_lines(self._config, filled))
        num_new = len(filled) if block.are_documents else bool(filled)
        num_new = min(num_new, MAX_DOCUMENTS - len(self._documents))
        self._documents.update(map(block.doc_id, range(num_new)))

    def finish(self) -> PieceScan:
        """Return the counts, after a check that the files have not changed meanwhile."""
        scan, piece = self._scan, self._piece
        if piece.begin:
            self._documents.discard(piece.sources[0].name)  # it began in an earlier piece
        check_unchanged(piece)  # before and after it is hashed
        scan.digest, scan.num_newlines = digest_of(self._config, piece)
        check_unchanged(piece)
        scan.num_documents = len(self._documents)
        scan.splits = sorted(self._splits | self._hashed)
        scan.notes, scan.invisible = self.notes.counts, dict(self._invisible)
        return scan


def _with_split(config: CorpusConfig, source: Source) -> Source:
    """Give a file any split where its lines are documents: hashing all of them would be slow."""
    is_text = format_of(source.path, config.format) is CorpusFormat.txt
    if source.split is None and is_text and config.document_unit is DocumentUnit.line:
        return dataclasses.replace(source, split=SPLITS[0])
    return source


def starts_of(
    config: CorpusConfig,
    pieces: list[Piece],
    scans: list[PieceScan],
    blocks: ContiguousSplit | None = None,
) -> list[PieceStart]:
    """Return what precedes each piece; ``pieces`` may be the first ones of the corpus.

    Only the few pieces in which a split of ``blocks`` begins are read.

    Raises:
        CorpusError: a file cannot be read, or has changed since it was scanned.
    """
    starts: list[PieceStart] = []
    start = PieceStart()
    splitter = None if blocks is None else ContiguousSplitter(blocks)
    for piece, scan in zip(pieces, scans, strict=True):
        if piece.begin == 0:
            start = PieceStart()
        state = SplitterState() if splitter is None else splitter.state
        start = dataclasses.replace(start, blocks=state)
        starts.append(start)
        start = PieceStart(start.lines + scan.num_newlines, start.records + scan.num_records)
        if splitter is None or piece is pieces[-1] or not scan.undivided_lines:
            continue
        if splitter.is_current_split(scan.undivided_lines, scan.undivided_chars):
            splitter.skip(scan.undivided_lines, scan.undivided_chars)
            continue
        for source in piece.sources:
            if source.split is None:
                source = dataclasses.replace(source, split="train")
                for block in read_source(config, source, piece, starts[-1]):
                    collections.deque(splitter.assign(block), 0)  # advances the splitter
    return starts
