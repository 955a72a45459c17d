"""Station one: text files -> lines that know their document and their split.

Documents are dealt to the splits by a stable hash and never torn apart. Shuffled lines would leak:
with kobill's near-duplicate lines a 5-gram scores perplexity 11 split by line and 114 by document.
Where documents are too few to fill the splits, contiguous blocks of lines do (``BlockSplit``).
Knows nothing of tokens.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from korlm.config import CorpusConfig, CorpusFormat, DocumentUnit, Encoding, TextConfig
from korlm.config.objective import SPLITS
from korlm.corpus.files import (
    inspect_file,
    read_blocks,
    read_records,
    text_lines,
)
from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import has_text, normalize
from korlm.corpus.notes import Notes
from korlm.corpus.sources import Source
from korlm.corpus.splits import BlockSplit, split_of
from korlm.text.unicode import BLANKS, is_blank
from korlm.utils.errors import CorpusError

KEY_CHARS = 4096  # of a document's beginning that decide its split


def read_corpus(
    config: TextConfig,
    sources: list[Source],
    notes: Notes | None = None,
    blocks: BlockSplit | None = None,
) -> Iterator[LineBlock]:
    """All lines of a corpus, in the order of the files, one document after the other.

    Memory holds a block of a file and the beginning of one document.

    Args:
        config: how the files are read; where a source has no split, a ``CorpusConfig``.
        sources: the files.
        notes: what is remarkable is counted there.
        blocks: splits the sources that have no split; None: by the hash of each document.

    Raises:
        CorpusError: text that cannot be read, or a file with nothing but blank lines.
    """
    notes = notes or Notes()
    divider = None if blocks is None else blocks.divide()
    for source in sources:
        found = inspect_file(source.path, Encoding(config.encoding), config.format)
        divided = divider is not None and source.split is None
        if divided:
            source = dataclasses.replace(source, split=SPLITS[0])  # until the divider says which
        if found.layout is CorpusFormat.txt:
            documents = _read_text(config, source)
        else:
            documents = _read_rows(config, source, found.layout, notes)
        seen_text = False
        for lines in documents:
            seen_text = seen_text or any(map(has_text, lines.texts))
            if divider is not None and divided:
                yield from divider.assign(lines)
            else:
                yield lines
        if not seen_text:
            raise CorpusError(f"{source.path}: holds nothing but blank lines; leave it out")


def _assign_split(
    config: TextConfig,
    source: Source,
    doc_id: str,
    blocks: Iterator[list[str]],
    key: str | None,
) -> Iterator[LineBlock]:
    """One document's lines with their split; ``key`` None: the document's beginning is the key."""
    split = source.split
    if split is None:
        if key is None:
            # Blank lines do not count: equal documents differ in how many follow them.
            head: list[list[str]] = []
            start: list[str] = []
            size = 0
            while size < KEY_CHARS and (block := next(blocks, None)):
                head.append(block)
                for text in block:
                    if not is_blank(text):
                        start.append(normalize(text))
                        size += len(start[-1])
                        if size >= KEY_CHARS:
                            break
            key = "\n".join(start)[:KEY_CHARS]
            blocks = itertools.chain(head, blocks)
        assert isinstance(config, CorpusConfig)
        split = split_of(normalize(key), config.valid_fraction, config.test_fraction)
    first = 1
    for texts in blocks:
        yield LineBlock(split, doc_id, first, texts)
        first += len(texts)


def _read_text(config: TextConfig, source: Source) -> Iterator[LineBlock]:
    blocks = read_blocks(source.path, Encoding(config.encoding))
    if config.document_unit is DocumentUnit.file:
        yield from _assign_split(config, source, source.name, blocks, None)
    elif config.document_unit is DocumentUnit.line:
        for number, text in enumerate(itertools.chain.from_iterable(blocks), 1):
            yield from _assign_split(
                config, source, f"{source.name}#{number}", iter(([text],)), text
            )
    else:
        parts = itertools.groupby(_split_at_blank_lines(blocks), key=lambda part: part[0])
        for number, document in parts:
            body = (texts for _, texts in document)
            yield from _assign_split(config, source, f"{source.name}#{number}", body, None)


def _split_at_blank_lines(blocks: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Lines with the number of their document, where blank lines part documents.

    A blank line goes with the document before it, leading ones with the first: no line is lost.
    """
    document, has_text, after_blank = 1, False, False
    for block in blocks:
        begin = 0
        for index, text in enumerate(block):
            if not text.strip(BLANKS):
                after_blank = has_text
            elif after_blank:
                if index > begin:
                    yield document, block[begin:index]
                document, begin, after_blank = document + 1, index, False
            else:
                has_text = True
        yield document, block[begin:]


def _read_rows(
    config: TextConfig, source: Source, layout: CorpusFormat, notes: Notes
) -> Iterator[LineBlock]:
    rows = read_records(
        source.path,
        Encoding(config.encoding),
        config.text_column,
        config.document_column,
        layout,
        config.separator,
        config.quoting,
        config.skip_without_text,
        notes,
    )
    counts: dict[str, int] = {}
    for number, (text, document) in enumerate(rows, 1):
        doc_id = f"{source.name}#{document or number}"
        key = document or normalize(text)[:KEY_CHARS]
        for lines in _assign_split(config, source, doc_id, iter((text_lines(text),)), key):
            if document:  # rows of one document may lie apart: its lines are numbered on
                before = counts.get(doc_id, 0)
                counts[doc_id] = before + len(lines.texts)
                lines = lines._replace(first=before + 1)
            yield lines
