"""Assigns documents, or blocks of lines, to train, valid and test."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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


class BlockState(NamedTuple):
    """Position in a ``BlockSplit`` after some lines with text.

    Attributes:
        split: index of the split.
        num_in_split: lines of it so far.
        num_lines: lines so far.
        num_chars: of these lines, one for each line end included.
    """

    split: int = 0
    num_in_split: int = 0
    num_lines: int = 0
    num_chars: int = 0


class BlockDivider:
    """Assigns the lines of a text, in order, to the splits of a ``BlockSplit``.

    Args:
        blocks: the splits.
        state: after the lines before the first one.
    """

    def __init__(self, blocks: BlockSplit, state: BlockState | None = None) -> None:
        self.state = state or BlockState()
        self._blocks = blocks
        self._splits = list(blocks.shares)
        self._ends = list(itertools.accumulate(blocks.shares.values()))

    def assign(self, block: LineBlock) -> Iterator[LineBlock]:
        """Yield the parts of a block that belong to different splits."""
        begin, split = 0, self.state.split
        for line, text in enumerate(block.texts):
            if has_text(text):
                self._advance(len(text) + 1)
                if self.state.split != split:
                    if line > begin:
                        yield self._part(block, begin, line, split)
                    begin, split = line, self.state.split
        yield self._part(block, begin, len(block.texts), split)

    def stays(self, num_lines: int, num_chars: int) -> bool:
        """Return True if the next lines with text all belong to the current split.

        Args:
            num_lines: number of these lines.
            num_chars: of these lines, one for each line end included.
        """
        after = self.state.num_lines + num_lines, self.state.num_chars + num_chars
        return not self._is_due(self.state.split, *after)

    def skip(self, num_lines: int, num_chars: int) -> None:
        """Count lines with text that all belong to the current split."""
        split, num_in_split, lines_before, chars_before = self.state
        lines = lines_before + num_lines
        self.state = BlockState(split, num_in_split + num_lines, lines, chars_before + num_chars)

    def _part(self, block: LineBlock, begin: int, end: int, split: int) -> LineBlock:
        return block.part(begin, end)._replace(split=self._splits[split])

    def _advance(self, size: int) -> None:
        """Count a line of ``size`` characters; begin the next split if the line belongs there."""
        split, num_in_split, num_lines, num_chars = self.state
        if num_in_split and self._is_due(split, num_lines, num_chars + size / 2):
            split, num_in_split = split + 1, 0
        self.state = BlockState(split, num_in_split + 1, num_lines + 1, num_chars + size)

    def _is_due(self, split: int, num_lines: int, num_chars: float) -> bool:
        """Return True if the next split should begin after so many lines and characters."""
        num_after = len(self._splits) - 1 - split
        num_left = self._blocks.num_lines - num_lines
        is_due = num_chars / self._blocks.num_chars >= self._ends[split] or num_left <= num_after
        return num_after > 0 and is_due


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
