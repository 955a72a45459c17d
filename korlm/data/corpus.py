"""Station one: text files -> lines that know their document and their split.

Documents are dealt to the splits by a stable hash and never torn apart. Shuffled lines would leak:
with kobill's near-duplicate lines a 5-gram scores perplexity 11 split by line and 114 by document.
Where documents are too few to fill the splits, contiguous blocks of lines do (``BlockSplit``).
Knows nothing of tokens.
"""

from __future__ import annotations

import collections
import dataclasses
import glob
import hashlib
import importlib.util
import itertools
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from korlm.config import CorpusConfig, Document, Encoding, Layout, TextConfig
from korlm.data.normalization import INVISIBLE, normalize
from korlm.data.notes import Notes
from korlm.data.text_files import (
    PACKED,
    STDIN,
    SUFFIXES,
    inspect_file,
    kind_of,
    read_blocks,
    read_records,
    text_lines,
)
from korlm.errors import CorpusError
from korlm.metrics import SPLITS

logger = logging.getLogger(__name__)

INPUT = "input"  # the one split of a text that is read as it is
KEY_CHARS = 4096  # of a document's beginning that decide its split
# White space and control characters: what a blank line is made of.
BLANKS = "".join(
    c for c in map(chr, range(0x3001)) if c.isspace() or unicodedata.category(c) == "Cc"
)


class Lines(NamedTuple):
    """Lines of a document that follow each other: one object for many, or Python would be slow.

    ``texts`` are the lines as read, ``first`` is the number of the first one within the document,
    from 1.
    """

    split: str
    doc_id: str
    first: int
    texts: list[str]


@dataclass(frozen=True)
class Source:
    """One file of a corpus: where it is, how documents name it, and the split it was given to."""

    path: Path
    name: str
    split: str | None
    size: int


def is_blank(text: str) -> bool:
    """Whether a line holds nothing but white space and control characters."""
    return not text.strip(BLANKS)


def has_text(text: str) -> bool:
    r"""Return whether a line holds anything but blanks and invisible characters.

    >>> has_text("\u200b \ufeff"), has_text("가")
    (False, True)
    """
    return not is_blank(text) and (text.isascii() or not is_blank(INVISIBLE.sub("", text)))


@dataclass(frozen=True)
class BlockSplit:
    """Splits of a text with too few documents: contiguous blocks of its lines, in their order.

    Each split gets about its share of the characters, and at least one line with text.

    Attributes:
        shares: of the splits, in their order; they add up to 1.
        num_chars: of all lines with text, one for each line end included.
        num_lines: with text; as many as splits or more.
    """

    shares: Mapping[str, float]
    num_chars: int
    num_lines: int

    def divide(self) -> BlockDivider:
        """Return what assigns the lines, from the first one on."""
        return BlockDivider(self)


class BlockDivider:
    """Assigns the lines of a text to the splits of a ``BlockSplit``; they must come in order."""

    def __init__(self, blocks: BlockSplit) -> None:
        self._blocks = blocks
        self._splits = list(blocks.shares)
        self._ends = list(itertools.accumulate(blocks.shares.values()))
        self._at = 0  # of the current split
        self._num_here = 0  # lines with text in it
        self._num_left = blocks.num_lines
        self._chars = 0

    def assign(self, lines: Lines) -> Iterator[Lines]:
        """Divide lines of one document that follow each other by their splits."""
        begin, at = 0, self._at
        for index, text in enumerate(lines.texts):
            if has_text(text):
                self._take(len(text) + 1)
                if self._at != at:
                    if index > begin:
                        yield self._part(lines, begin, index, at)
                    begin, at = index, self._at
        yield self._part(lines, begin, len(lines.texts), at)

    def _part(self, lines: Lines, begin: int, end: int, at: int) -> Lines:
        return Lines(self._splits[at], lines.doc_id, lines.first + begin, lines.texts[begin:end])

    def _take(self, size: int) -> None:
        """Moves to the next split if the next line, of ``size`` characters, belongs there."""
        middle = (self._chars + size / 2) / self._blocks.num_chars
        num_after = len(self._splits) - 1 - self._at
        is_due = middle >= self._ends[self._at] or self._num_left <= num_after
        if num_after and self._num_here and is_due:
            self._at, self._num_here = self._at + 1, 0
        self._num_here += 1
        self._num_left -= 1
        self._chars += size


def konlpy_folder() -> Path:
    """Where konlpy lies with its texts and Kkma's jar; not imported: it would import jpype."""
    package = importlib.util.find_spec("konlpy")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent


def find_sources(config: CorpusConfig) -> list[Source]:
    """The files that the settings name, in a fixed order.

    Raises:
        CorpusError: a file or pattern that matches nothing, an empty or unreadable file, or a file
            named for two splits.
    """
    sources = _sources_at(config.files, "corpus.files", None, config.source)
    for split in SPLITS:
        places: list[str] = getattr(config, split)
        sources += _sources_at(places, f"corpus.{split}", split, config.source)
    return _told_apart(sources)


def find_inputs(places: Sequence[str], key: str) -> list[Source]:
    """The files of a text that is no corpus of its own, all in one split, in the order given.

    Args:
        places: files, folders or globs; ``-`` is standard input.
        key: the setting that names them.

    Raises:
        CorpusError: as ``find_sources``.
    """
    sources: list[Source] = []
    for place in places:
        if place == "-":
            sources.append(Source(STDIN, "stdin", INPUT, 0))
        else:
            sources += _sources_at([place], key, INPUT)
    return _told_apart(sources)


def _sources_at(
    places: Sequence[str], key: str, split: str | None, origin: str = ""
) -> list[Source]:
    """The files at some places, in a fixed order.

    Args:
        places: files, folders or globs.
        key: the setting that names them.
        split: that they belong to; None: their documents are dealt.
        origin: where the text can be had; told when a file is missing.

    Raises:
        CorpusError: a file or pattern that matches nothing, an empty or unreadable file.
    """
    sources: list[Source] = []
    for place in places:
        try:
            found = _expand(place, key, origin)
        except OSError as error:  # a folder that may not be searched, a name that is too long
            raise CorpusError(f"{key}: {place} cannot be read ({error.strerror})") from error
        sources += [_source(path, name, split) for path, name in found]
    return sources


def _told_apart(sources: list[Source]) -> list[Source]:
    """Each file once, each with a name of its own."""
    seen: dict[Path, str | None] = {}
    for source in sources:
        real = source.path.resolve()
        if real in seen and seen[real] != source.split:
            both = f"{seen[real] or 'files'} and {source.split or 'files'}"
            raise CorpusError(f"{source.path}: named in {both} of the corpus; name it once")
        seen[real] = source.split
    named = list({source.path.resolve(): source for source in sources}.values())
    return _tell_apart(named)


def _tell_apart(sources: list[Source]) -> list[Source]:
    """Puts as many folders before equal names as it takes: a corpus that moves keeps its names."""
    while True:
        names = collections.Counter(source.name for source in sources)
        longer = []
        for source in sources:
            parts = source.path.resolve().parts
            size = source.name.count("/") + 2
            if names[source.name] > 1 and size <= len(parts):
                name = "/".join(parts[-size:])
                source = dataclasses.replace(source, name=_readable(name))
            longer.append(source)
        if longer == sources:
            return sources
        sources = longer


def _readable(name: str) -> str:
    """A file's name as UTF-8 files can hold it: old archives unpack to names in cp949."""
    return name.encode("utf-8", "backslashreplace").decode()


def _expand(place: str, key: str, origin: str) -> list[tuple[Path, str]]:
    if place.startswith("konlpy:"):
        relative = place.removeprefix("konlpy:")
        return [(konlpy_folder() / "data" / "corpus" / relative, relative)]
    path = Path(place).expanduser()
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        found = [p for p in inside if kind_of(p) in SUFFIXES]
        if not found:
            endings = " ".join(SUFFIXES)
            raise CorpusError(
                f"{key}: the folder {place} holds no text file ({endings}, plain or "
                f"{' or '.join(PACKED)})"
            )
        _log_left_out(key, place, inside)
        return [(p, p.relative_to(path).as_posix()) for p in found]
    if path.exists():
        return [(path, path.name)]
    found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
    if not found:
        hint = f"; fetch it from {origin}" if origin else ""
        raise CorpusError(f"{key}: {place} is neither a file, a folder nor a glob of files{hint}")
    # A glob names files from its last fixed folder on, whatever it matches: names must not change
    # when files are added.
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    return [(p, p.relative_to(base).as_posix()) for p in found]


def _log_left_out(key: str, place: str, inside: Sequence[Path]) -> None:
    """Says which files of a folder are not read; nothing of hidden ones."""
    kinds = collections.Counter(
        "".join(p.suffixes[-2:]) or "no ending"
        for p in inside
        if kind_of(p) not in SUFFIXES and not p.name.startswith(".")
    )
    if kinds:
        most = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
        most += ", ..." * (len(kinds) > 5)
        logger.info(
            "%s: files in %s with other endings, which are not read: %d (%s)",
            *(key, place, kinds.total(), most),
        )


def _source(path: Path, name: str, split: str | None) -> Source:
    try:
        size = path.stat().st_size
    except PermissionError:
        raise CorpusError(f"{path}: may not be read; change its permissions") from None
    except FileNotFoundError:
        raise CorpusError(f"{path}: there is no such file") from None
    if size == 0:
        raise CorpusError(f"{path}: the file is empty; leave it out")
    return Source(path, _readable(name), split, size)


def content_digest(source: Source) -> str:
    """A hash of the bytes of a file (BLAKE2b)."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(source.path, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except PermissionError:
        raise CorpusError(f"{source.path}: may not be read; change its permissions") from None
    except OSError as error:
        raise CorpusError(f"{source.path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def split_of(key: str, valid_share: float, test_share: float) -> str:
    """The split of a document: a stable hash of its key against the shares.

    The same document goes to the same split on every machine, and stays there when the corpus
    grows; equal documents go to the same split.

    >>> split_of("constitution.txt", 0.0, 0.0)
    'train'
    """
    hashed = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    place = int.from_bytes(hashed, "big") / 2**64
    if place < test_share:
        return "test"
    return "valid" if place < test_share + valid_share else "train"


def read_corpus(
    config: TextConfig,
    sources: list[Source],
    notes: Notes | None = None,
    blocks: BlockSplit | None = None,
) -> Iterator[Lines]:
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
        found = inspect_file(source.path, Encoding(config.encoding), config.layout)
        divided = divider is not None and source.split is None
        if divided:
            source = dataclasses.replace(source, split=SPLITS[0])  # until the divider says which
        if found.layout is Layout.txt:
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


def _dealt(
    config: TextConfig,
    source: Source,
    doc_id: str,
    blocks: Iterator[list[str]],
    key: str | None,
) -> Iterator[Lines]:
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
        split = split_of(normalize(key), config.valid_share, config.test_share)
    first = 1
    for texts in blocks:
        yield Lines(split, doc_id, first, texts)
        first += len(texts)


def _read_text(config: TextConfig, source: Source) -> Iterator[Lines]:
    blocks = read_blocks(source.path, Encoding(config.encoding))
    if config.document is Document.file:
        yield from _dealt(config, source, source.name, blocks, None)
    elif config.document is Document.line:
        for number, text in enumerate(itertools.chain.from_iterable(blocks), 1):
            yield from _dealt(config, source, f"{source.name}#{number}", iter(([text],)), text)
    else:
        parts = itertools.groupby(_parted(blocks), key=lambda part: part[0])
        for number, document in parts:
            body = (texts for _, texts in document)
            yield from _dealt(config, source, f"{source.name}#{number}", body, None)


def _parted(blocks: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
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


def _read_rows(config: TextConfig, source: Source, layout: Layout, notes: Notes) -> Iterator[Lines]:
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
        for lines in _dealt(config, source, doc_id, iter((text_lines(text),)), key):
            if document:  # rows of one document may lie apart: its lines are numbered on
                before = counts.get(doc_id, 0)
                counts[doc_id] = before + len(lines.texts)
                lines = lines._replace(first=before + 1)
            yield lines
