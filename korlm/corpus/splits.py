"""Assign documents, or blocks of lines, to the splits train, valid and test."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from korlm.corpus.normalization import has_text
from korlm.corpus.records import LineBlock


@dataclass(frozen=True)
class ContiguousSplit:
    """Split of a text with too few documents for all splits: consecutive lines for each split.

    Each split gets about its share of the characters, and at least one line with text. Blank lines
    are not counted.
    """

    shares: Mapping[str, float]  # of the characters, in the order of the blocks; the sum is 1
    num_chars: int  # of the text, with one for each line end
    num_lines: int  # of the text; at least the number of splits


class SplitterState(NamedTuple):
    """Position in a text that is divided by a ``ContiguousSplit``; blank lines are not counted."""

    split: int = 0  # index of the current split
    num_in_split: int = 0  # lines of the current split so far
    num_lines: int = 0
    num_chars: int = 0  # with one for each line end


class ContiguousSplitter:
    """Assigns the lines of a text, in order, to the splits of a ``ContiguousSplit``.

    ``state`` is the position of the first line; None: the beginning of the text.
    """

    def __init__(self, blocks: ContiguousSplit, state: SplitterState | None = None) -> None:
        self.state = state or SplitterState()
        self._blocks = blocks
        self._splits = list(blocks.shares)
        # The fraction of the text up to the end of each split.
        self._ends = list(itertools.accumulate(blocks.shares.values()))

    def assign(self, block: LineBlock) -> Iterator[LineBlock]:
        """Yield the parts of a block of lines that belong to different splits."""
        begin, split = 0, self.state.split
        for line, text in enumerate(block.texts):
            if has_text(text):
                self._advance(len(text) + 1)
                if self.state.split != split:
                    if line > begin:
                        yield self._part(block, begin, line, split)
                    begin, split = line, self.state.split
        yield self._part(block, begin, len(block.texts), split)

    def is_current_split(self, num_lines: int, num_chars: int) -> bool:
        """Return whether the next lines certainly belong to the current split.

        It may be False although all of them do; then use ``assign``.
        """
        lines, chars = self.state.num_lines + num_lines, self.state.num_chars + num_chars
        return not self._is_due(self.state.split, lines, chars)

    def skip(self, num_lines: int, num_chars: int) -> None:
        """Count lines for which ``is_current_split`` returned True."""
        self.state = SplitterState(
            self.state.split,
            self.state.num_in_split + num_lines,
            self.state.num_lines + num_lines,
            self.state.num_chars + num_chars,
        )

    def _part(self, block: LineBlock, begin: int, end: int, split: int) -> LineBlock:
        return block.part(begin, end)._replace(split=self._splits[split])

    def _advance(self, size: int) -> None:
        """Count a non-blank line of ``size`` characters; begin the next split if it belongs there.

        A split ends before the line whose middle passes its share. Each split has a line or more,
        and a line begins one split at most.
        """
        split, num_in_split, num_lines, num_chars = self.state
        if num_in_split and self._is_due(split, num_lines, num_chars + size / 2):
            split, num_in_split = split + 1, 0
        self.state = SplitterState(split, num_in_split + 1, num_lines + 1, num_chars + size)

    def _is_due(self, split: int, num_lines: int, num_chars: float) -> bool:
        """Return whether the split after ``split`` begins after this many lines and characters.

        It begins as soon as ``split`` has its share, or only one line is left for each later split.
        """
        splits_left = len(self._splits) - 1 - split
        lines_left = self._blocks.num_lines - num_lines
        has_share = num_chars / self._blocks.num_chars >= self._ends[split]
        return splits_left > 0 and (has_share or lines_left <= splits_left)


def split_of(key: str, valid_fraction: float, test_fraction: float) -> str:
    """Return the split of a document, by a hash of its key.

    Documents with the same key are in the same split, on every machine and also when the corpus
    grows.

    >>> [split_of(f"{number}.txt", 0.2, 0.2) for number in range(3)]
    ['train', 'test', 'train']
    """
    hashed = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    fraction = int.from_bytes(hashed, "big") / 2**64  # uniform in [0, 1)
    if fraction < test_fraction:
        return "test"
    return "valid" if fraction < test_fraction + valid_fraction else "train"
