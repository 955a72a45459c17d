"""A pool behind the cache of lines: only lines that nobody has analysed yet reach the tokenizer."""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.data.cache import LineCache
from korlm.data.columns import ANALYSIS, EMPTY, Analysis, columns_of
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

    def columns(self, new: pa.RecordBatch | None = None) -> pa.RecordBatch:
        """All lines, in order; the time that a line took stands at the first one of its kind.

        Args:
            new: what the pool made of the lines that were sent.
        """
        if len(self.sent) == len(self.texts) and new is not None:
            return new
        parts = [columns_of(list(self.known.values()))]
        if new is not None:
            parts.append(new)
        rows = {text: row for row, text in enumerate(itertools.chain(self.known, self.sent))}
        at = np.fromiter((rows[text] for text in self.texts), np.int64, len(self.texts))
        columns = [
            pa.concat_arrays([part.column(name) for part in parts]).take(pa.array(at))
            for name in ANALYSIS.names
        ]
        first = np.zeros(len(at), dtype=bool)
        first[np.unique(at, return_index=True)[1]] = True
        columns[-1] = pc.if_else(pa.array(first), columns[-1], pa.scalar(0, pa.float32()))
        return pa.RecordBatch.from_arrays(columns, schema=ANALYSIS)


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
        assert columns.num_rows == len(batch.sent)
        keep = functools.reduce(
            pc.or_, (pc.starts_with(columns["status"], pattern=kind) for kind in _KEPT)
        )
        cache.put(list(itertools.compress(batch.sent, keep.to_pylist())), columns.filter(keep))
        yield batch.columns(columns)


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
