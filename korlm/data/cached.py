"""A pool behind the cache of lines: only lines that nobody has analysed yet reach the tokenizer."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from korlm.data.cache import LineCache
from korlm.data.columns import EMPTY, Analysis, analyses_of, columns_of
from korlm.data.corpus import is_blank
from korlm.data.pool import Task, TokenizerPool

# What another run, with more time or on another machine, might do better is not kept.
_KEPT = ("ok", "lost", "cut: over budget", "fallback: over budget")


@dataclass
class _Batch:
    """A batch on its way: what is known of its lines, and those that were sent to the pool."""

    texts: Sequence[str]
    known: dict[str, Analysis] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)  # empty: nothing of it is left to do

    def columns(self) -> pa.RecordBatch:
        """All lines, in order; the time that a line took stands at the first one of its kind."""
        rows = []
        for text in self.texts:
            rows.append(self.known[text])
            if rows[-1].seconds:
                self.known[text] = rows[-1]._replace(seconds=0.0)
        return columns_of(rows)


def map_cached(
    pool: TokenizerPool, cache: LineCache, batches: Iterable[Task]
) -> Iterator[pa.RecordBatch]:
    """``pool.map``, but equal lines are analysed once, and those that the cache has not at all.

    Args:
        pool: what analyses the rest.
        cache: of its very tokenizer.
        batches: of lines (NFC), or their columns.
    """
    waiting: collections.deque[_Batch] = collections.deque()

    def unknown() -> Iterator[Task]:
        for texts in batches:
            if isinstance(texts, pa.RecordBatch):
                waiting.append(_Batch([]))
                yield texts
                continue
            batch = _look_up(cache, texts)
            waiting.append(batch)
            yield batch.sent or batch.columns()

    for columns in pool.map(unknown()):
        batch = waiting.popleft()
        if not batch.sent:
            yield columns
            continue
        analyses = analyses_of(columns)
        kept = [
            (text, analysis)
            for text, analysis in zip(batch.sent, analyses, strict=True)
            if analysis.status.startswith(_KEPT)
        ]
        cache.put([text for text, _ in kept], [analysis for _, analysis in kept])
        batch.known.update(zip(batch.sent, analyses, strict=True))
        yield columns if len(batch.sent) == len(batch.texts) else batch.columns()


def _look_up(cache: LineCache, texts: Sequence[str]) -> _Batch:
    batch = _Batch(texts)
    written = []
    for text in dict.fromkeys(texts):
        if is_blank(text):
            batch.known[text] = EMPTY
        else:
            written.append(text)
    for text, found in zip(written, cache.get(written), strict=True):
        if found is None:
            batch.sent.append(text)
        else:
            batch.known[text] = found
    return batch
