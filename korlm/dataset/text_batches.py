"""Groups the lines of a corpus into batches for the tokenizer."""

from __future__ import annotations

import bisect
import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from korlm.config import UnicodeForm
from korlm.corpus.normalization import normalize_all
from korlm.corpus.records import LineBlock

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
    pending: dict[str, list[LineBlock]] = {}  # of the unfinished batch of each split
    num_chars: Counter[str] = Counter()
    for block in blocks:
        split = block.split
        ends = list(itertools.accumulate(len(text) + 1 for text in block.texts))
        begin = num_chars_before = 0
        while begin < len(ends):
            needed = num_chars_before + BATCH_CHARS - num_chars[split]
            end = min(bisect.bisect_left(ends, needed, begin) + 1, len(ends))
            pending.setdefault(split, []).append(block.part(begin, end))
            num_chars[split] += ends[end - 1] - num_chars_before
            begin, num_chars_before = end, ends[end - 1]
            if num_chars[split] >= BATCH_CHARS:
                yield TextBatch(split, pending.pop(split), unicode)
                num_chars[split] = 0
    for split, parts in pending.items():
        yield TextBatch(split, parts, unicode)
