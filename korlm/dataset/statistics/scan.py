"""Count the tokens and lines of a split in one pass over its shards.

Python loops run over distinct tokens only. Memory holds a row group, the distinct tokens, and
a hash of eight bytes for each line that is not blank; of train they are held twice.
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

from korlm.config import UnicodeForm
from korlm.corpus.normalization import normalize_all
from korlm.dataset.storage.shards import non_blank_mask, read_columns, shard_paths

NUM_LONGEST = 5  # longest lines that are listed
Ints = npt.NDArray[np.int64]
Statistics = dict[str, Any]  # the values of statistics.json, or some of them


class LongLine(NamedTuple):
    """A line with its length in characters (of NFC, without the line end) and morphs."""

    num_chars: int
    num_morphs: int
    doc_id: str
    line: int


class SplitScan:
    """Counts of the lines of a split that are not blank.

    Args:
        train_hashes: sorted hashes of the lines of train, to count lines that are in both splits;
            None: do not count them.
        unicode: form in which lines are compared; characters are counted in NFC.
    """

    def __init__(
        self, train_hashes: Ints | None = None, unicode: UnicodeForm = UnicodeForm.nfc
    ) -> None:
        self.counts: Counter[str] = Counter()  # of each morph, in order of first occurrence
        # Numbers of morphs and of distinct ones, after 100, 200, 500 ... morphs and at the end.
        self.growth: list[tuple[int, int]] = []
        self.line_lengths: Counter[int] = Counter()  # number of morphs -> number of lines
        self.longest: list[LongLine] = []  # with the most characters, in decreasing order
        # In train are lines whose hash is in ``train_hashes``.
        self.num_morphs = self.num_in_train = self.num_morphs_in_train = 0
        self._train_hashes = np.empty(0, np.int64) if train_hashes is None else train_hashes
        self._unicode = unicode
        self._hashes: list[Ints] = []

    def hashes(self) -> Ints:
        """Return a hash of 64 bits for each line, in order; see ``hash_lines``."""
        return np.concatenate([np.empty(0, np.int64), *self._hashes])

    def add(self, batch: pa.RecordBatch) -> None:
        """Add lines, with the columns doc_id, line, text, morphs and status."""
        batch = batch.filter(pa.array(non_blank_mask(batch.column("status"))))
        self._add_morphs(batch.column("morphs").flatten())
        lengths = pc.list_value_length(batch.column("morphs")).to_numpy(zero_copy_only=False)
        sizes, counts = np.unique(lengths, return_counts=True)
        self.line_lengths.update(dict(zip(sizes.tolist(), counts.tolist(), strict=True)))
        texts = batch.column("text").to_pylist()
        hashes = hash_lines(normalize_all(texts, self._unicode))
        self._hashes.append(hashes)
        # Unlike np.isin, this does not sort the hashes of train for each batch.
        is_in_train = np.searchsorted(self._train_hashes, hashes, "right") > np.searchsorted(
            self._train_hashes, hashes, "left"
        )
        self.num_in_train += int(is_in_train.sum())
        self.num_morphs_in_train += int(lengths[is_in_train].sum())
        self._add_longest(batch, normalize_all(texts), lengths)

    def _add_morphs(self, morphs: pa.StringArray) -> None:
        encoded = morphs.dictionary_encode()
        types = encoded.dictionary.to_pylist()
        indices = encoded.indices.to_numpy(zero_copy_only=False)
        first = np.empty(len(types), np.int64)
        first[indices[::-1]] = np.arange(len(indices))[::-1]  # the last assignment counts
        is_new = np.fromiter((token not in self.counts for token in types), bool, len(types))
        new_at = np.sort(first[is_new]) + self.num_morphs
        for mark in marks(self.num_morphs + 1, self.num_morphs + len(indices)):
            self.growth.append((mark, len(self.counts) + int(np.searchsorted(new_at, mark))))
        self.num_morphs += len(indices)
        totals = np.bincount(indices, minlength=len(types)).tolist()
        for token, count in zip(types, totals, strict=True):
            self.counts[token] += count

    def _add_longest(
        self, batch: pa.RecordBatch, texts: Sequence[str], lengths: npt.NDArray[Any]
    ) -> None:
        chars = np.fromiter(map(len, texts), np.int64, len(texts))
        index = np.argsort(-chars, kind="stable")[:NUM_LONGEST]
        rows = batch.select(["doc_id", "line"]).take(pa.array(index)).to_pylist()
        lines = [
            LongLine(int(chars[i]), int(lengths[i]), row["doc_id"], row["line"])
            for i, row in zip(index, rows, strict=True)
        ]
        # nlargest is stable: of lines of equal length the first ones are kept.
        self.longest = heapq.nlargest(
            NUM_LONGEST, [*self.longest, *lines], key=lambda line: line.num_chars
        )

    def finish(self) -> None:
        """Add the last point of ``growth``."""
        if self.num_morphs and (not self.growth or self.growth[-1][0] != self.num_morphs):
            self.growth.append((self.num_morphs, len(self.counts)))


def scan_split(
    tokens: Path,
    split: str,
    train_hashes: Ints | None = None,
    unicode: UnicodeForm = UnicodeForm.nfc,
    progress: Callable[[int], object] = lambda lines: None,
) -> SplitScan:
    """Scan the shards of a split in the folder ``tokens``; see ``SplitScan``.

    ``progress`` is called with the number of lines of each row group.

    Raises:
        PreparedError: a shard is damaged.
    """
    scan = SplitScan(train_hashes, unicode)
    for path in shard_paths(tokens, split):
        for batch in read_columns(path, ["doc_id", "line", "text", "morphs", "status"]):
            scan.add(batch)
            progress(batch.num_rows)
    scan.finish()
    return scan


def hash_lines(texts: Sequence[str]) -> Ints:
    """Return a hash of 64 bits for each line (Python's ``hash``); shape (lines,).

    Hashes differ between processes, so they must not be stored or sent. Among n
    lines, n^2 / 2^65 collisions are expected: 0.03 for a billion lines.
    """
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def marks(low: int, high: int) -> Iterator[int]:
    """Yield those of 100, 200, 500, 1,000, 2,000, 5,000 ... that are in [low, high].

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


def lines_at(tokens: Path, split: str, indices: Sequence[int]) -> list[tuple[str, int, str]]:
    """Return document, number and text of lines, given their indices among non-blank ones."""
    lines: dict[int, tuple[str, int, str]] = {}
    begin = 0
    for path in shard_paths(tokens, split):
        for batch in read_columns(path, ["doc_id", "line", "text", "status"]):
            batch = batch.filter(pa.array(non_blank_mask(batch.column("status"))))
            inside = [index for index in indices if begin <= index < begin + len(batch)]
            rows = batch.take(pa.array([index - begin for index in inside], pa.int64()))
            for index, row in zip(inside, rows.to_pylist(), strict=True):
                lines[index] = (row["doc_id"], row["line"], row["text"])
            begin += len(batch)
            if len(lines) == len(set(indices)):
                return [lines[index] for index in indices]
    return [lines[index] for index in indices]
