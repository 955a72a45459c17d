"""Count all n-grams of a stream of ids with NumPy, in memory or with files.

An n-gram of order k is identified by (id of its first k - 1 tokens, last token), as in a trie. The
stream is the ids, with <eos> after each sentence, and one more <eos> before the first. An <eos>
that starts an n-gram is the start of a sentence (KenLM's <s>), one that ends it is the end (</s>),
and n-grams with <eos> in between are not counted: none crosses a sentence. Distinct n-grams are
identified by sorting their keys.

With a limit of memory, the keys are sorted in ranges: each range is collected in a pass over the
stream, and the ranges follow each other, so that no sorted parts need to be merged. The result is
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.dataset.vocab import EOS_ID
from korlm.models.ngram.columns import Column, Columns

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]

# A token id array, or a stream of memory-mapped ones (``korlm.dataset.storage.id_stream``).
Ids = Any


@dataclass(frozen=True)
class NgramCounts:
    """N distinct n-grams of order k, sorted by ``keys``; the row of an n-gram is its id.

    Unigrams are all ids of the vocabulary, seen or not; their ``suffixes`` are 0, the empty
    context, and their ``starts_sentence`` is False.

    Attributes:
        keys: (N,) id of the first k - 1 tokens * V + last token.
        counts: (N,) occurrences in the stream; of unigrams in the ids, without the first <eos>.
        suffixes: (N,) id of the last k - 1 tokens among the n-grams of order k - 1.
        starts_sentence: (N,) whether the first token is the start of a sentence.
    """

    keys: Column
    counts: Column
    suffixes: Column
    starts_sentence: Column

    def __len__(self) -> int:
        return len(self.keys)

    def close(self) -> None:
        """Free the columns."""
        for column in (self.keys, self.counts, self.suffixes, self.starts_sentence):
            column.close()


def max_order(ids: Ids) -> int:
    """Return the order of the longest n-gram of a stream: a sentence with its start and end."""
    longest, last_end = 0, -1
    for begin, block in _blocks(ids, 1 << 20):
        ends = begin + np.flatnonzero(block == EOS_ID)
        if len(ends):
            longest = max(longest, int(np.diff(ends, prepend=last_end).max()))
            last_end = int(ends[-1])
    # The last sentence may lack its <eos>.
    return 1 + max(longest, len(ids) - 1 - last_end)


def _blocks(ids: Ids, size: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for begin in range(0, len(ids), size):
        yield begin, np.asarray(ids[begin : begin + size])


def count_grams(
    ids: Ids, vocab_size: int, order: int, check: Callable[[], None], columns: Columns
) -> Iterator[NgramCounts]:
    """Count the n-grams of orders 1 to ``order``; yield each order when it is counted.

    The counts of an order are read for the next one: close them only after that.

    Args:
        ids: (N,), the train split with <eos> after each sentence.
        vocab_size: V.
        order: at most ``max_order(ids)``.
        check: called before each pass that collects n-grams; it may raise to stop.
        columns: creates the columns of the counts.
    """
    counter = _Counter(ids, vocab_size, check, columns)
    level = counter.unigrams()
    yield level
    for k in range(2, order + 1):
        level = counter.count(k, level)
        yield level


class _Counter:
    """Counts order by order."""

    def __init__(
        self, ids: Ids, vocab_size: int, check: Callable[[], None], columns: Columns
    ) -> None:
        self._ids, self._vocab_size, self._check, self._columns = ids, vocab_size, check, columns
        self._length = len(ids) + 1  # with the <eos> before the first sentence
        self._dtype = np.dtype(np.int32 if self._length < 1 << 31 else np.int64)
        # The id of the (k - 1)-gram that starts at each position of the stream, -1 for none; for
        # k = 2 the stream itself.
        self._id_at: Column | None = None

    def unigrams(self) -> NgramCounts:
        """Return the counts of all ids."""
        counts = np.zeros(self._vocab_size, dtype=np.int64)
        for _, block in _blocks(self._ids, self._columns.block_rows):
            counts += np.bincount(block, minlength=self._vocab_size)
        level = self._new_level()
        level.keys.append(np.arange(self._vocab_size))
        level.counts.append(counts)
        level.suffixes.append(np.zeros(self._vocab_size))
        level.starts_sentence.append(np.zeros(self._vocab_size))
        return level

    def _new_level(self) -> NgramCounts:
        """Return the counts of no n-grams."""
        dtypes = (np.dtype(np.int64), self._dtype, self._dtype, np.dtype(np.bool_))
        return NgramCounts(*(self._columns.new(dtype) for dtype in dtypes))

    def _tokens(self, begin: int, end: int) -> npt.NDArray[Any]:
        """Return a range of the stream."""
        block = np.asarray(self._ids[max(begin - 1, 0) : max(end - 1, 0)])
        return block if begin else np.concatenate([np.array([EOS_ID], block.dtype), block])

    def _prefixes(self, begin: int, end: int) -> npt.NDArray[Any]:
        """Return the ids of the (k - 1)-grams at a range of positions."""
        return self._tokens(begin, end) if self._id_at is None else self._id_at.read(begin, end)

    def count(self, k: int, shorter: NgramCounts) -> NgramCounts:
        """Return the n-grams of order k, at least 2, from those of order k - 1."""
        level, position_ids = self._new_level(), _PositionIds(self._columns, self._dtype)
        for begin, end, rows in self._ranges(k, shorter):
            self._check()
            self._count_range(k, shorter, level, position_ids, begin, end, rows)
        id_at = self._columns.new(self._dtype)
        for number, (begin, end) in enumerate(self._position_blocks(k)):
            block = np.full(end - begin, -1, self._dtype)
            for positions, ids in position_ids.read(number):
                block[positions] = ids
            id_at.append(block)
        position_ids.close()
        if self._id_at is not None:
            self._id_at.close()
        self._id_at = id_at
        return level

    def _position_blocks(self, k: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of the positions at which an n-gram of order k may start."""
        size, end = self._columns.block_rows, self._length - k + 1
        for begin in range(0, end, size):
            yield begin, min(begin + size, end)

    def _ranges(self, k: int, shorter: NgramCounts) -> Iterator[tuple[int, int, int]]:
        """Yield disjoint ranges of all keys that occur: begin, end, and a bound of their number."""
        limit, V = self._columns.sort_rows, self._vocab_size
        if limit is None:
            yield 0, len(shorter) * V, self._length
            return
        begin = rows_before = total = 0
        for offset in range(0, len(shorter), self._columns.block_rows):
            # No more n-grams have a prefix than the prefix has occurrences.
            counts = shorter.counts.read(offset, offset + self._columns.block_rows)
            counts = counts.copy()
            if k > 2:  # nothing follows </s>
                keys = shorter.keys.read(offset, offset + self._columns.block_rows)
                counts[keys % V == EOS_ID] = 0
            elif offset <= EOS_ID < offset + len(counts):
                counts[EOS_ID - offset] += 1  # the one before the first sentence
            ends = total + np.cumsum(counts, dtype=np.int64)
            total = int(ends[-1])
            while (i := int(np.searchsorted(ends, rows_before + limit, side="right"))) < len(ends):
                prefix, rows = offset + i, int(counts[i])
                if int(ends[i]) - rows > rows_before:
                    yield begin, prefix * V, int(ends[i]) - rows - rows_before
                begin, rows_before = prefix * V, int(ends[i]) - rows
                if rows > limit:  # too many tokens after one prefix
                    for cut in [*self._cuts(k, prefix, limit), V]:
                        yield begin, prefix * V + cut, rows  # rows of the whole prefix
                        begin = prefix * V + cut
                    rows_before = int(ends[i])
        if total > rows_before:
            yield begin, len(shorter) * V, total - rows_before

    def _cuts(self, k: int, prefix: int, limit: int) -> list[int]:
        """Return the last tokens at which the keys of a frequent prefix are split into ranges."""
        counts = np.zeros(self._vocab_size, dtype=np.int64)
        for begin, end in self._position_blocks(k):
            last = self._tokens(begin + k - 1, end + k - 1)
            counts += np.bincount(
                last[self._prefixes(begin, end) == prefix], minlength=self._vocab_size
            )
        cuts, rows = [], 0
        for token in np.flatnonzero(counts).tolist():
            count = int(counts[token])
            if rows + count > limit and rows:
                cuts.append(token)
                rows = 0
            rows += count
        return cuts

    def _count_range(
        self,
        k: int,
        shorter: NgramCounts,
        level: NgramCounts,
        position_ids: _PositionIds,
        begin: int,
        end: int,
        max_rows: int,
    ) -> None:
        """Append n-grams of order k to a level: those with keys from ``begin`` to ``end`` - 1.

        They occur at most ``max_rows`` times. ``shorter`` are the n-grams of order k - 1;
        ``position_ids`` receives the positions and ids of the n-grams.
        """
        V = self._vocab_size
        position_ids.begin_range()
        is_all = begin == 0 and end == len(shorter) * V
        keys, suffixes = np.empty(max_rows, np.int64), np.empty(max_rows, self._dtype)
        size = 0
        for first, last in self._position_blocks(k):
            ids = self._prefixes(first, last + 1)
            tokens = self._tokens(first + k - 2, last + k - 1)
            block = ids[:-1].astype(np.int64) * V + tokens[1:]
            # Nothing follows a prefix that ends with </s>; a first token that is <eos> is <s>.
            is_counted = np.ones(len(block), np.bool_) if k == 2 else tokens[:-1] != EOS_ID
            if k > 2:
                is_counted &= ids[:-1] >= 0
            if not is_all:
                is_counted &= (block >= begin) & (block < end)
            positions = np.flatnonzero(is_counted)
            position_ids.add_block(positions)
            rows = slice(size, size + len(positions))
            keys[rows], suffixes[rows] = block[positions] - begin, ids[1:][positions]
            size = rows.stop
        keys, suffixes = keys[:size], suffixes[:size]
        keys, by_key = _sort(keys, end - begin)
        is_first = np.concatenate([np.ones(min(len(keys), 1), np.bool_), keys[1:] != keys[:-1]])
        begins = np.flatnonzero(is_first)
        ids = np.empty(len(keys), self._dtype)
        ids[by_key] = len(level) - 1 + np.cumsum(is_first, dtype=self._dtype)
        position_ids.set_ids(ids)
        keys = keys[begins] + begin
        level.counts.append(np.diff(begins, append=len(by_key)))
        level.suffixes.append(suffixes[by_key[begins]])
        prefixes = keys // V
        if k == 2:
            level.starts_sentence.append(prefixes == EOS_ID)
        elif len(prefixes):
            low, high = int(prefixes[0]), int(prefixes[-1]) + 1
            starts = shorter.starts_sentence.read(low, high)
            level.starts_sentence.append(starts[prefixes - low])
        level.keys.append(keys)


class _PositionIds:
    """Positions of n-grams in the blocks of a stream, and the id of the n-gram at each."""

    def __init__(self, columns: Columns, dtype: np.dtype[Any]) -> None:
        self._positions, self._ids = columns.new(np.int32), columns.new(dtype)
        # For each range of keys, the number of positions up to the end of each block.
        self._ends: list[list[int]] = []

    def begin_range(self) -> None:
        """Begin a range of keys, for which all blocks follow."""
        self._ends.append([len(self._positions)])

    def add_block(self, positions: Int64) -> None:
        """Add the positions of the next block, counted from its beginning."""
        self._positions.append(positions)
        self._ends[-1].append(len(self._positions))

    def set_ids(self, ids: npt.NDArray[Any]) -> None:
        """Set the ids at all positions of the range."""
        self._ids.append(ids)

    def read(self, number: int) -> Iterator[tuple[Int32, npt.NDArray[Any]]]:
        """Yield the positions of a block, and the ids at them, for each range of keys."""
        for ends in self._ends:
            begin, end = ends[number : number + 2]
            yield self._positions.read(begin, end), self._ids.read(begin, end)

    def close(self) -> None:
        """Free the columns."""
        self._positions.close()
        self._ids.close()


def _sort(keys: Int64, end: int) -> tuple[Int64, Int64]:
    """Return sorted keys, from 0 to ``end`` - 1, and the index of each in ``keys``."""
    bits = max(len(keys) - 1, 1).bit_length()
    if max(end - 1, 1).bit_length() + bits > 64:
        rows = np.argsort(keys, kind="stable")
        return keys[rows], rows
    # Sorting keys and indices packed into one number is several times as fast as argsort.
    packed = keys.view(np.uint64) << np.uint64(bits)
    packed |= np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    rows = (packed & np.uint64((1 << bits) - 1)).view(np.int64)
    packed >>= np.uint64(bits)
    return packed.view(np.int64), rows
