"""Assigns documents to train, valid and test by a stable hash."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import has_text


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

    def assign(self, lines: LineBlock) -> Iterator[LineBlock]:
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

    def _part(self, lines: LineBlock, begin: int, end: int, at: int) -> LineBlock:
        return LineBlock(
            self._splits[at], lines.doc_id, lines.first + begin, lines.texts[begin:end]
        )

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


def split_of(key: str, valid_fraction: float, test_fraction: float) -> str:
    """The split of a document: a stable hash of its key against the shares.

    The same document goes to the same split on every machine, and stays there when the corpus
    grows; equal documents go to the same split.

    >>> split_of("constitution.txt", 0.0, 0.0)
    'train'
    """
    hashed = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    place = int.from_bytes(hashed, "big") / 2**64
    if place < test_fraction:
        return "test"
    return "valid" if place < test_fraction + valid_fraction else "train"
