"""Read a corpus: yield the lines of its files with their document and split.

A hash assigns whole documents to the splits. If lines were assigned, test would contain what the
model has seen: on kobill, with its near-duplicate lines, a 5-gram model has perplexity 11 if split
by line and 114 if split by document. If there are too few documents, the text is divided into
contiguous blocks of lines (``ContiguousSplit``).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from korlm.config import CorpusConfig, CorpusFormat, DocumentUnit, Encoding, TextConfig
from korlm.config.metrics import SPLITS
from korlm.corpus.files import format_of, inspect_file, read_blocks, read_records, text_lines
from korlm.corpus.normalization import has_text, normalize, normalize_all
from korlm.corpus.pieces import Piece, PieceStart, changed_file, check_unchanged, digest_of
from korlm.corpus.records import FileRange, LineBlock, Notes
from korlm.corpus.sources import Source
from korlm.corpus.splits import ContiguousSplit, ContiguousSplitter, split_of
from korlm.text.unicode import BLANKS, is_blank
from korlm.utils.errors import CorpusError

_TABLE_ONLY = ("label_column", "target_column", "keep_columns")  # settings that .txt files lack
KEY_CHARS = 4096  # length of the beginning of a document that decides its split


def read_corpus(
    config: TextConfig,
    sources: list[Source],
    notes: Notes | None = None,
    blocks: ContiguousSplit | None = None,
) -> Iterator[LineBlock]:
    """Yield all lines of a corpus, in the order of the files and documents.

    Memory holds a block of a file and the beginning of one document, with
    ``corpus.document_column`` also the names of the documents of a file, and .json as a whole.

    Args:
        config: a ``CorpusConfig`` if any source has no split.
        sources: the files.
        notes: counts remarks on the files.
        blocks: how to divide the sources without a split; None: by a hash of each document.

    Raises:
        CorpusError: a file cannot be read, or has only blank lines.
    """
    splitter = None if blocks is None else ContiguousSplitter(blocks)
    for source in sources:
        yield from _read_divided(config, Piece(0, (source,)), PieceStart(), notes, splitter)


def read_piece(
    config: TextConfig,
    piece: Piece,
    start: PieceStart,
    blocks: ContiguousSplit | None = None,
    digest: str | None = None,
) -> Iterator[LineBlock]:
    """Yield the lines of a piece, as ``read_corpus`` yields them.

    ``digest`` is the result of ``digest_of`` when the piece was scanned; None: it is not verified.

    Raises:
        CorpusError: a file cannot be read, or has changed since it was scanned.
    """
    splitter = None if blocks is None else ContiguousSplitter(blocks, start.blocks)
    yield from _read_divided(config, piece, start, None, splitter)
    if digest is not None and digest_of(config, piece)[0] != digest:
        check_unchanged(piece)  # names the file
        raise changed_file(piece.sources[0].path)


def _read_divided(
    config: TextConfig,
    piece: Piece,
    start: PieceStart,
    notes: Notes | None,
    splitter: ContiguousSplitter | None,
) -> Iterator[LineBlock]:
    """Yield the lines of a piece; ``splitter`` assigns the splits of sources that have none."""
    for source in piece.sources:
        if splitter is None or source.split is not None:
            yield from read_source(config, source, piece, start, notes)
            continue
        # Any split, so that no document is hashed: the splitter assigns the real one.
        source = dataclasses.replace(source, split=SPLITS[0])
        for block in read_source(config, source, piece, start, notes):
            yield from splitter.assign(block)


def read_source(
    config: TextConfig,
    source: Source,
    piece: Piece,
    start: PieceStart,
    notes: Notes | None = None,
) -> Iterator[LineBlock]:
    """Yield the lines of one file of a piece, one block for each record if it has records.

    ``scan.py`` relies on that when it counts the records.

    Raises:
        CorpusError: the file cannot be read, or a whole file has only blank lines.
    """
    if not piece.begin:  # raises an error for binary files, markup and a wrong encoding
        inspect_file(source.path, Encoding(config.encoding), config.format)
    part = FileRange(piece.begin, piece.end, start.lines)
    if format_of(source.path, config.format) is CorpusFormat.txt:
        if named := [key for key, _ in config.columns if key in _TABLE_ONLY]:
            raise CorpusError(
                f"{source.path}: plain text has no columns for corpus.{named[0]}; leave the file "
                "out, or give corpus.format"
            )
        line_blocks = _read_text(config, source, part, start)
    else:
        line_blocks = _read_rows(config, source, notes or Notes(), part, start)
    needs_text = not piece.is_range
    for block in line_blocks:
        needs_text = needs_text and not any(map(has_text, block.texts))
        yield block
    if needs_text:
        raise blank_file(source.path)


def blank_file(path: Path) -> CorpusError:
    """Return the error for a file without text."""
    return CorpusError(f"{path}: holds no text (blank lines, or no rows); leave it out")


def _assign_split(
    config: TextConfig,
    source: Source,
    doc_id: str,
    blocks: Iterator[list[str]],
    key: str | None,
    first: int = 1,
) -> Iterator[LineBlock]:
    """Yield the lines of a document with their split.

    The hash of ``key`` decides the split; None: that of the beginning of the document. ``first`` is
    the number of the first line within the document.
    """
    split = source.split
    if split is None:
        if key is None:
            key, blocks = _document_key(blocks)
        assert isinstance(config, CorpusConfig)
        split = split_of(normalize(key), config.valid_fraction, config.test_fraction)
    for texts in blocks:
        yield LineBlock(split, doc_id, first, texts)
        first += len(texts)


def _document_key(blocks: Iterator[list[str]]) -> tuple[str, Iterator[list[str]]]:
    """Return the normalized beginning of a document without blank lines, and all of its lines.

    Blank lines are left out since equal documents may be followed by different numbers of them.
    """
    first_blocks: list[list[str]] = []
    key: list[str] = []
    size = 0
    while size < KEY_CHARS and (block := next(blocks, None)):
        first_blocks.append(block)
        for text in block:
            if not is_blank(text):
                key.append(normalize(text))
                size += len(key[-1])
                if size >= KEY_CHARS:
                    break
    return "\n".join(key)[:KEY_CHARS], itertools.chain(first_blocks, blocks)


def _read_text(
    config: TextConfig, source: Source, part: FileRange, start: PieceStart
) -> Iterator[LineBlock]:
    """Yield the lines of a part of a .txt file."""
    encoding = Encoding(config.encoding)
    blocks = read_blocks(source.path, encoding, part)
    if config.document_unit is DocumentUnit.file:
        key = None
        if source.split is None and (part.begin or part.end):  # the beginning of the file decides
            key, _ = _document_key(read_blocks(source.path, encoding))
        yield from _assign_split(config, source, source.name, blocks, key, part.lines + 1)
    elif config.document_unit is DocumentUnit.line:
        number = part.lines + 1
        for texts in blocks:
            block = LineBlock(source.split or "", source.name, number, texts, are_documents=True)
            number += len(texts)
            if source.split is not None:
                yield block
                continue
            begin = 0
            for split, run in itertools.groupby(splits_of_lines(config, texts)):
                end = begin + sum(1 for _ in run)
                yield block.part(begin, end)._replace(split=split)
                begin = end
    else:
        documents = itertools.groupby(_split_at_blank_lines(blocks), key=lambda pair: pair[0])
        for number, document in documents:
            number += start.records
            body = (texts for _, texts in document)
            yield from _assign_split(config, source, f"{source.name}#{number}", body, None)


def splits_of_lines(config: TextConfig, texts: list[str]) -> Iterator[str]:
    """Yield the split of each line of a file without a split, where each is a document."""
    assert isinstance(config, CorpusConfig)
    for key in normalize_all(texts):
        yield split_of(key, config.valid_fraction, config.test_fraction)


def _split_at_blank_lines(blocks: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the document, some of its lines); blank lines separate documents.

    A blank line belongs to the document before it; at the beginning, to the first document.
    """
    document, seen_text, after_blank = 1, False, False
    for block in blocks:
        begin = 0
        for index, text in enumerate(block):
            if not text.strip(BLANKS):
                after_blank = seen_text
            elif after_blank:
                if index > begin:
                    yield document, block[begin:index]
                document, begin, after_blank = document + 1, index, False
            else:
                seen_text = True
        yield document, block[begin:]


def _read_rows(
    config: TextConfig, source: Source, notes: Notes, part: FileRange, start: PieceStart
) -> Iterator[LineBlock]:
    """Yield the lines of the records of a part of a file."""
    # doc_id -> lines so far. The rows of a document may be anywhere in the file, which is why
    # ``plan_pieces`` does not cut it.
    num_lines: dict[str, int] = {}
    keys = config.keep_columns
    records = read_records(source.path, config, notes, part)
    for number, record in enumerate(records, start.records + 1):
        text, document, annotation, kept = record
        doc_id = f"{source.name}#{document or number}"
        key = document or normalize(text)[:KEY_CHARS]
        texts = text_lines(text)
        if config.annotation_key:  # a record has exactly one line, and maybe a line of target text
            texts = [" ".join(texts)]
            _check_annotation(config, f"{source.path}: record {number}", texts[0], annotation)
            if config.target_column:
                texts.append(" ".join(text_lines(annotation)))
        columns = {name: [value] * len(texts) for name, value in zip(keys, kept, strict=True)}
        if config.label_column:
            columns[config.label_column] = [annotation.strip()]
        for block in _assign_split(config, source, doc_id, iter((texts,)), key):
            block = block._replace(columns=columns)
            if document:
                lines_before = num_lines.get(doc_id, 0)
                num_lines[doc_id] = lines_before + len(block.texts)
                block = block._replace(first=lines_before + 1)
            yield block


def _check_annotation(config: TextConfig, location: str, text: str, annotation: str) -> None:
    """Raise an error if a record has no label, or if the text or the target text is blank."""
    if not has_text(annotation):
        kind = "label" if config.label_column else "target text"
        column = getattr(config, config.annotation_key)
        raise CorpusError(f"{location} has no {kind} in {column!r}; add it, or remove the record")
    if config.target_column and not has_text(text):
        raise CorpusError(
            f"{location} has no text in {config.text_column!r}; add it, or remove the record"
        )
