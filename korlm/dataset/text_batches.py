"""Groups lines into batches for a tokenizer."""

from __future__ import annotations

import bisect
import functools
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from korlm.config import Unicode
from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import normalize_all

SHARD_CHARS = 1_000_000  # characters of text after which a shard is closed


BATCH_CHARS = 16_384  # characters of text that are tokenized at once


@dataclass(frozen=True)
class Batch:
    """Lines of one split that are tokenized together, and the shard they go to."""

    split: str
    shard: int
    last: bool  # of its shard
    lines: list[LineBlock]
    unicode: Unicode = Unicode.nfc  # of the corpus

    @functools.cached_property
    def texts(self) -> list[str]:
        """The lines as read."""
        return list(itertools.chain.from_iterable(lines.texts for lines in self.lines))

    @functools.cached_property
    def normal(self) -> list[str]:
        """The lines as tokenizers see them: normalized as the corpus says."""
        return normalize_all(self.texts, self.unicode)

    @functools.cached_property
    def num_chars(self) -> int:
        """Characters of text as read, one for each line end included."""
        return sum(map(len, self.texts)) + len(self.texts)


class Batcher:
    """Parts the lines of a corpus into batches, and tells which shard each belongs to.

    Depends on the text alone, so that a rerun makes the same batches and the same shards.

    Args:
        unicode: normalization of the corpus.
    """

    def __init__(self, unicode: Unicode = Unicode.nfc) -> None:
        self._unicode = unicode
        self._lines: dict[str, list[LineBlock]] = {}
        self._batch_chars: Counter[str] = Counter()
        self._shard_chars: Counter[str] = Counter()
        self._shard: Counter[str] = Counter()

    def batches(self, corpus: Iterator[LineBlock]) -> Iterator[Batch]:
        """Batches in the order in which they fill; those of one split stay in order."""
        for lines in corpus:
            split, _, first, texts = lines
            held = self._lines.setdefault(split, [])
            ends = list(itertools.accumulate([len(text) + 1 for text in texts]))
            begin = done = 0
            while begin < len(texts):
                missing = BATCH_CHARS - self._batch_chars[split]
                end = bisect.bisect_left(ends, done + missing, begin) + 1
                part = texts[begin:end]
                held.append(lines._replace(first=first + begin, texts=part))
                chars = ends[begin + len(part) - 1] - done
                self._batch_chars[split] += chars
                self._shard_chars[split] += chars
                begin, done = end, done + chars
                if self._batch_chars[split] >= BATCH_CHARS:
                    yield self._close(split, self._shard_chars[split] >= SHARD_CHARS)
                    held = self._lines[split]
        for split, rest in list(self._lines.items()):
            # An empty batch closes the shard that the last full one left open.
            if rest or self._shard_chars[split]:
                yield self._close(split, last=True)

    def _close(self, split: str, last: bool) -> Batch:
        batch = Batch(split, self._shard[split], last, self._lines[split], self._unicode)
        self._lines[split] = []
        self._batch_chars[split] = 0
        if last:
            self._shard[split] += 1
            self._shard_chars[split] = 0
        return batch
