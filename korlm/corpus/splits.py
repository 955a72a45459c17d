"""Assigns documents, or blocks of lines, to train, valid and test."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import has_text


@dataclass(frozen=True)
class BlockSplit:
    """A split of a text into contiguous blocks of lines, for texts of too few documents.

    Each split gets about its share of the characters, and at least one line with text.

    Attributes:
        shares: split -> its fraction, in the order of the blocks; the sum is 1.
        num_chars: of all lines with text, one for each line end included.
        num_lines: lines with text; at least the number of splits.
    """

    shares: Mapping[str, float]
    num_chars: int
    num_lines: int


class BlockDivider:
    """Assigns the lines of a text, in order, to the splits of a ``BlockSplit``."""

    def __init__(self, blocks: BlockSplit) -> None:
        self._blocks = blocks
        self._splits = list(blocks.shares)
        self._ends = list(itertools.accumulate(blocks.shares.values()))
        self._index = 0  # of the current split
        self._num_in_split = 0  # lines with text
        self._num_left = blocks.num_lines
        self._num_chars = 0

    def assign(self, block: LineBlock) -> Iterator[LineBlock]:
        """Yield the parts of a block that belong to different splits."""
        begin, split = 0, self._index
        for line, text in enumerate(block.texts):
            if has_text(text):
                self._advance(len(text) + 1)
                if self._index != split:
                    if line > begin:
                        yield self._part(block, begin, line, split)
                    begin, split = line, self._index
        yield self._part(block, begin, len(block.texts), split)

    def _part(self, block: LineBlock, begin: int, end: int, split: int) -> LineBlock:
        return block.part(begin, end)._replace(split=self._splits[split])

    def _advance(self, size: int) -> None:
        """Count a line of ``size`` characters; begin the next split if the line belongs there."""
        middle = (self._num_chars + size / 2) / self._blocks.num_chars
        num_after = len(self._splits) - 1 - self._index
        is_due = middle >= self._ends[self._index] or self._num_left <= num_after
        if num_after and self._num_in_split and is_due:
            self._index, self._num_in_split = self._index + 1, 0
        self._num_in_split += 1
        self._num_left -= 1
        self._num_chars += size


def split_of(key: str, valid_fraction: float, test_fraction: float) -> str:
    """Return the split of a document, by a stable hash of its key.

    A document goes to the same split on every machine, and stays there when the corpus grows; equal
    documents go to the same split.

    >>> split_of("constitution.txt", 0.0, 0.0)
    'train'
    """
    hashed = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    fraction = int.from_bytes(hashed, "big") / 2**64
    if fraction < test_fraction:
        return "test"
    return "valid" if fraction < test_fraction + valid_fraction else "train"
