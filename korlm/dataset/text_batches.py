"""Groups the lines of a corpus into batches for the tokenizer."""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from korlm.config import UnicodeForm
from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import normalize_all

BATCH_CHARS = 16_384  # characters of a batch, at least, unless the text ends


@dataclass(frozen=True)
class TextBatch:
    """Lines of one split that are tokenized together, in corpus order."""

    split: str
    blocks: list[LineBlock]
    unicode: UnicodeForm = UnicodeForm.nfc

    @functools.cached_property
    def texts(self) -> list[str]:
        """Lines as read."""
        return list(itertools.chain.from_iterable(block.texts for block in self.blocks))

    @functools.cached_property
    def normalized(self) -> list[str]:
        """Lines in the form that tokenizers see."""
        return normalize_all(self.texts, self.unicode)

    @functools.cached_property
    def num_chars(self) -> int:
        """Number of characters as read, one for each line end included."""
        return sum(map(len, self.texts)) + len(self.texts)


def batch_lines(
    blocks: Iterable[LineBlock], unicode: UnicodeForm = UnicodeForm.nfc
) -> Iterator[TextBatch]:
    """Group lines, in corpus order, into batches, in the order in which they fill.

    The result depends on the text alone, so that a rerun yields the same batches. Splits may
    alternate.
    """
    splits: dict[str, _SplitBatcher] = {}
    for block in blocks:
        if block.split not in splits:
            splits[block.split] = _SplitBatcher(block.split, unicode)
        yield from splits[block.split].add(block)
    for split in splits.values():
        yield from split.flush()


class _SplitBatcher:
    """The batch of one split that is being filled."""

    def __init__(self, split: str, unicode: UnicodeForm) -> None:
        self._split, self._unicode = split, unicode
        self._blocks: list[LineBlock] = []
        self._num_chars = 0

    def add(self, block: LineBlock) -> Iterator[TextBatch]:
        """Add lines and yield the batches that they fill."""
        ends = list(itertools.accumulate(len(text) + 1 for text in block.texts))
        begin = num_chars_before = 0
        while begin < len(ends):
            needed = num_chars_before + BATCH_CHARS - self._num_chars
            end = min(bisect.bisect_left(ends, needed, begin) + 1, len(ends))
            self._blocks.append(block.part(begin, end))
            self._num_chars += ends[end - 1] - num_chars_before
            begin, num_chars_before = end, ends[end - 1]
            if self._num_chars >= BATCH_CHARS:
                yield from self.flush()

    def flush(self) -> Iterator[TextBatch]:
        """Yield the last batch, unless it is empty."""
        if self._blocks:
            yield TextBatch(self._split, self._blocks, self._unicode)
        self._blocks, self._num_chars = [], 0
