"""Scan pieces of a corpus: counts, errors and remarks, found before any slow work begins."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections import Counter
from dataclasses import dataclass, field

from korlm.config import CorpusConfig, CorpusFormat, DocumentUnit
from korlm.config.objective import SPLITS
from korlm.corpus.files import format_of
from korlm.corpus.normalization import INVISIBLE, has_text
from korlm.corpus.notes import Notes
from korlm.corpus.pieces import Piece, PieceStart, check_unchanged, digest_of
from korlm.corpus.reader import read_source, splits_of_lines
from korlm.corpus.sources import Source
from korlm.corpus.splits import ContiguousSplit, ContiguousSplitter, SplitterState
from korlm.text.unicode import is_blank
from korlm.utils.errors import CorpusError

MAX_DOCUMENTS = 100  # more documents of a piece are not counted: only few ones are an error


@dataclass(frozen=True)
class PieceScan:
    """Counts of a piece. All values are JSON-serializable.

    Attributes:
        error: message about why the text cannot be read; then all counts are 0. Empty: no error.
        digest: hash of the bytes (``digest_of``).
        num_chars: number of characters of all lines, counting one for each line end.
        num_lines: number of lines that ``read_piece`` yields, blank ones included.
        num_newlines: number of LF in the bytes of the piece.
        num_records: number of records of the last file; of a .txt file, of documents.
        num_documents: number of documents that begin in sources without a split, at most
            ``MAX_DOCUMENTS``.
        splits: splits that have text.
        undivided_chars: number of characters of non-blank lines of sources without a split,
            counting one for each line end.
        undivided_lines: number of these lines.
        last_document: ``doc_id`` of the last record, if a column names the documents.
        last_document_lines: number of lines of that document in this piece.
        notes: remark -> (count, first location).
        invisible: invisible character -> count.
        first_invisible: document of the first invisible character.
    """

    error: str = ""
    digest: str = ""
    num_chars: int = 0
    num_lines: int = 0
    num_newlines: int = 0
    num_records: int = 0
    num_documents: int = 0
    splits: list[str] = field(default_factory=list)
    undivided_chars: int = 0
    undivided_lines: int = 0
    last_document: str = ""
    last_document_lines: int = 0
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    invisible: dict[str, int] = field(default_factory=dict)
    first_invisible: str = ""


def scan_piece(config: CorpusConfig, piece: Piece, start: PieceStart | None = None) -> PieceScan:
    """Read a piece, and return its counts.

    Args:
        config: settings of the corpus.
        piece: the piece.
        start: what precedes the piece; None: unknown. Then the locations in errors and notes are
            relative to the piece; all other values are the same.
    """
    try:
        start = dataclasses.replace(start or PieceStart(), document="", document_lines=0)
        return _scan(config, piece, start)
    except CorpusError as error:
        return PieceScan(error=str(error))


def _scan(config: CorpusConfig, piece: Piece, start: PieceStart) -> PieceScan:
    notes = Notes()
    invisible: Counter[str] = Counter()
    first_invisible = ""
    num_chars = num_lines = num_records = 0
    undivided_chars = undivided_lines = 0
    splits: set[str] = set()
    hashed: set[str] = set()  # splits of lines that are documents
    num_hashed = 1 + (config.valid_fraction > 0) + (config.test_fraction > 0)
    documents: set[str] = set()
    last_document, last_document_lines = "", 0
    is_text = format_of(piece.sources[0].path, config.format) is CorpusFormat.txt
    pairs = (
        (source, block)
        for source in piece.sources
        for block in read_source(config, _with_split(config, source), piece, start, notes)
    )
    for source, block in pairs:
        joined = "\n".join(block.texts)
        num_chars, num_lines = num_chars + len(joined) + 1, num_lines + len(block.texts)
        characters = [] if joined.isascii() else INVISIBLE.findall(joined)
        is_empty = _has_no_text if characters else is_blank
        is_hashed = block.are_documents and source.split is None
        if not is_hashed and block.split not in splits and not all(map(is_empty, block.texts)):
            splits.add(block.split)
        is_new, last_document = block.document != last_document, block.document
        num_records += len(block.texts) if block.are_documents else is_new if is_text else 1
        if config.document_column:
            last_document_lines = block.first - 1 + len(block.texts)
        if source.split is None:
            filled = list(itertools.filterfalse(is_empty, block.texts))
            undivided_chars += sum(map(len, filled)) + len(filled)
            undivided_lines += len(filled)
            if is_hashed and len(hashed) < num_hashed:
                hashed.update(splits_of_lines(config, filled))
            num_new = len(block.texts) if block.are_documents else 1
            num_new = min(num_new, MAX_DOCUMENTS - len(documents))
            documents.update(map(block.doc_id, range(num_new)))
        if "\r" in joined:
            remark = "carriage returns within lines, read as blanks"
            line = next(i for i, text in enumerate(block.texts) if "\r" in text)
            notes.add(remark, block.doc_id(line), joined.count("\r"))
        if characters:
            invisible.update(characters)
            if not first_invisible:
                line = next(i for i, text in enumerate(block.texts) if INVISIBLE.search(text))
                first_invisible = block.doc_id(line)
    if piece.begin:
        documents.discard(piece.sources[0].name)  # the document that began in an earlier piece
    check_unchanged(piece)
    digest, num_newlines = digest_of(config, piece)
    return PieceScan(
        digest=digest,
        num_chars=num_chars,
        num_lines=num_lines,
        num_newlines=num_newlines,
        num_records=num_records,
        num_documents=len(documents),
        splits=sorted(splits | hashed),
        undivided_chars=undivided_chars,
        undivided_lines=undivided_lines,
        last_document=last_document if config.document_column else "",
        last_document_lines=last_document_lines,
        notes=notes.counts,
        invisible=dict(invisible),
        first_invisible=first_invisible,
    )


def _with_split(config: CorpusConfig, source: Source) -> Source:
    """Give a file any split where its lines are documents: hashing all of them would be slow."""
    is_text = format_of(source.path, config.format) is CorpusFormat.txt
    if source.split is None and is_text and config.document_unit is DocumentUnit.line:
        return dataclasses.replace(source, split=SPLITS[0])
    return source


def _has_no_text(text: str) -> bool:
    """Return what ``is_blank`` returns, for a line that may have invisible characters."""
    return not has_text(text)


def starts_of(
    config: CorpusConfig,
    pieces: list[Piece],
    scans: list[PieceScan],
    blocks: ContiguousSplit | None = None,
) -> list[PieceStart]:
    """Return what precedes each piece.

    Only the few pieces in which a split of ``blocks`` begins are read.

    Args:
        config: settings of the corpus.
        pieces: all pieces of the corpus, or the first ones.
        scans: the scans of these pieces.
        blocks: how to divide the sources without a split; None: by a hash of each document.

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
        start = _after(start, scan)
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


def _after(start: PieceStart, scan: PieceScan) -> PieceStart:
    """Return what precedes the next piece of the same file, given what precedes this piece."""
    document, document_lines = start.document, start.document_lines
    if scan.num_records:
        continues = scan.last_document == document
        document = scan.last_document
        document_lines = scan.last_document_lines + (document_lines if continues else 0)
    lines, records = start.lines + scan.num_newlines, start.records + scan.num_records
    return PieceStart(lines, records, document, document_lines)
