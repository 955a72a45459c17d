"""One pass over the shards of a split, at array speed: Python loops over different tokens only.

Memory holds a row group, the different tokens, and eight bytes for each line that is not blank.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.corpus.normalization import normalize_all
from korlm.dataset.numericalize import filled_lines
from korlm.dataset.shards import read_columns, shard_paths

NUM_LONGEST = 5  # lines that are named


Ints = npt.NDArray[np.int64]


class LongLine(NamedTuple):
    """A line, and how long it is."""

    num_chars: int
    num_morphs: int
    doc_id: str
    line: int


class SplitScan:
    """What one pass over a split finds in its lines (NFC); blank ones are left out of all of it.

    Args:
        known: the sorted hashes of the lines of train, to be looked for here; None: of no lines.

    Attributes:
        counts: of each morph, in the order in which they come.
        growth: pairs of (morphs read, different ones among them), at 100, 200, 500, 1,000 ... and
            at the end.
        line_lengths: how many lines have so many morphs.
        longest: the lines with the most characters, the longest first.
        num_known: lines that stand in ``known`` too, and
        num_known_morphs: their morphs.
    """

    def __init__(self, known: Ints | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.growth: list[tuple[int, int]] = []
        self.line_lengths: Counter[int] = Counter()
        self.longest: list[LongLine] = []
        self.num_morphs = self.num_known = self.num_known_morphs = 0
        self._known = np.empty(0, np.int64) if known is None else known
        self._hashes: list[Ints] = []

    @property
    def hashes(self) -> Ints:
        """A hash of 64 bits for each line, in order; another process has others."""
        return np.concatenate([np.empty(0, np.int64), *self._hashes])

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes in the next lines: doc_id, line, text, morphs and status of each."""
        filled = np.flatnonzero(filled_lines(batch.column("status")))
        batch = batch.take(pa.array(filled))
        self._add_morphs(batch.column("morphs").flatten())
        lengths = pc.list_value_length(batch.column("morphs")).to_numpy(zero_copy_only=False)
        sizes, how_many = np.unique(lengths, return_counts=True)
        self.line_lengths.update(dict(zip(sizes.tolist(), how_many.tolist(), strict=True)))
        texts = normalize_all(batch.column("text").to_pylist())
        hashes = hash_lines(texts)
        self._hashes.append(hashes)
        is_known = np.isin(hashes, self._known) if len(self._known) else np.zeros(len(hashes), bool)
        self.num_known += int(is_known.sum())
        self.num_known_morphs += int(lengths[is_known].sum())
        self._add_longest(batch, texts, lengths)

    def _add_morphs(self, morphs: pa.StringArray) -> None:
        encoded = morphs.dictionary_encode()
        types = encoded.dictionary.to_pylist()
        indices = encoded.indices.to_numpy(zero_copy_only=False)
        first = np.empty(len(types), np.int64)
        first[indices[::-1]] = np.arange(len(indices))[::-1]  # the last one to be written stays
        is_new = np.fromiter((token not in self.counts for token in types), bool, len(types))
        came = np.sort(first[is_new]) + self.num_morphs
        for mark in marks(self.num_morphs + 1, self.num_morphs + len(indices)):
            self.growth.append((mark, len(self.counts) + int(np.searchsorted(came, mark))))
        self.num_morphs += len(indices)
        totals = np.bincount(indices, minlength=len(types)).tolist()
        for token, count in zip(types, totals, strict=True):
            self.counts[token] += count

    def _add_longest(
        self, batch: pa.RecordBatch, texts: Sequence[str], lengths: npt.NDArray[Any]
    ) -> None:
        chars = np.fromiter(map(len, texts), np.int64, len(texts))
        at = np.argsort(-chars, kind="stable")[:NUM_LONGEST]
        named = batch.select(["doc_id", "line"]).take(pa.array(at)).to_pylist()
        found = [
            LongLine(int(chars[i]), int(lengths[i]), row["doc_id"], row["line"])
            for i, row in zip(at, named, strict=True)
        ]
        # Of lines of one length those that came first stay, as nlargest keeps the order.
        self.longest = heapq.nlargest(
            NUM_LONGEST, [*self.longest, *found], key=lambda line: line.num_chars
        )

    def finish(self) -> None:
        """Sets the last point of the growth."""
        if self.num_morphs and (not self.growth or self.growth[-1][0] != self.num_morphs):
            self.growth.append((self.num_morphs, len(self.counts)))


def scan_split(
    tokens: Path,
    split: str,
    known: Ints | None = None,
    progress: Callable[[int], object] = lambda lines: None,
) -> SplitScan:
    """Reads the shards of a split.

    Args:
        tokens: the folder of the shards.
        split: its name.
        known: the sorted hashes of the lines of train, to be looked for here.
        progress: is told of lines that were read.

    Raises:
        PreparedError: a shard is damaged.
    """
    scan = SplitScan(known)
    for path in shard_paths(tokens, split):
        for batch in read_columns(path, ["doc_id", "line", "text", "morphs", "status"]):
            scan.add(batch)
            progress(batch.num_rows)
    scan.finish()
    return scan


def hash_lines(texts: Sequence[str]) -> Ints:
    """A hash of 64 bits for each line; shape (lines,).

    Python's own. Of n lines, n^2 / 2^65 pairs are alike by chance: 0.03 of a billion lines.
    """
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def marks(low: int, high: int) -> Iterator[int]:
    """100, 200, 500, 1,000, 2,000, 5,000 ..., those from ``low`` to ``high``.

    >>> list(marks(200, 5000))
    [200, 500, 1000, 2000, 5000]
    """
    for power in itertools.count(2):
        for factor in (1, 2, 5):
            mark = factor * 10**power
            if mark > high:
                return
            if mark >= low:
                yield mark


def lines_at(tokens: Path, split: str, places: Sequence[int]) -> list[tuple[str, int, str]]:
    """Document, number and text of some lines.

    Args:
        tokens: the folder of the shards.
        split: its name.
        places: of the lines among those of the split that are not blank, from 0.
    """
    found: dict[int, tuple[str, int, str]] = {}
    begin = 0
    for path in shard_paths(tokens, split):
        for batch in read_columns(path, ["doc_id", "line", "text", "status"]):
            filled = np.flatnonzero(filled_lines(batch.column("status")))
            inside = [place for place in places if begin <= place < begin + len(filled)]
            rows = batch.take(pa.array([filled[place - begin] for place in inside], pa.int64()))
            for place, row in zip(inside, rows.to_pylist(), strict=True):
                found[place] = (row["doc_id"], row["line"], row["text"])
            begin += len(filled)
            if len(found) == len(set(places)):
                return [found[place] for place in places]
    return [found[place] for place in places]
