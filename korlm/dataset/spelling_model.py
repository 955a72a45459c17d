r"""Spelling model: what the characters of an unknown word cost.

An interpolated n-gram model over characters with Witten and Bell's (1991) weights, as Chen and
Goodman (1998, section 2.5) state them: with n(h) the occurrences of a history h and t(h) the number
of different characters after it,

    p(c | h) = (n(h, c) + t(h) p(c | h')) / (n(h) + t(h)),   h' = h without its first character,

down to a uniform distribution over all characters of Unicode and the end of the word. It is trained
on the different tokens of train, each once, so that it knows how words are spelt and not how often
they are used. Everything is done on sorted arrays; nothing loops over characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Unicode has 1,114,112 code points, 2,048 of them halves of surrogate pairs; and one end of word.
UNIFORM = 1.0 / (1_114_112 - 2_048 + 1)


_START, _END, _BITS = 1, 2, 21  # a code point has 21 bits


UInt64 = npt.NDArray[np.uint64]


Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CharNgramModel:
    """Character n-grams of one order up to ``order``.

    ``grams[k]`` holds the sorted different (k + 1)-grams, packed 21 bits a character, and
    ``counts[k]`` how often each was seen.
    """

    grams: tuple[UInt64, ...]
    counts: tuple[Int64, ...]

    @property
    def order(self) -> int:
        """Longest n-gram: two characters of history and one more."""
        return len(self.grams)

    @classmethod
    def train(cls, words: Iterable[str], order: int = 3) -> CharNgramModel:
        """Counts the n-grams of different words.

        Args:
            words: each different word once.
            order: of the longest n-grams, 1 to 3 (three code points fill 63 bits).
        """
        if not 1 <= order <= 3:
            raise ValueError(f"order {order}: three code points fill 63 bits, so 1 to 3")
        codes, _ = _codes(list(words))
        grams, counts = [], []
        for k in range(order):
            # A window that ends in a start mark crosses into the next word.
            packed = _windows(codes, k)[codes != _START]
            unique, count = np.unique(packed, return_counts=True)
            grams.append(unique)
            counts.append(count.astype(np.int64))
        return cls(tuple(grams), tuple(counts))

    def nats(self, words: Sequence[str]) -> npt.NDArray[np.float64]:
        """The cost of spelling each word and its end, -ln p; shape (len(words),)."""
        if not words:
            return np.zeros(0)
        codes, starts = _codes(words)
        p = np.full(len(codes), UNIFORM)
        for k, (grams, counts) in enumerate(zip(self.grams, self.counts, strict=True)):
            seen = _windows(codes, k)
            histories, first = np.unique(grams >> np.uint64(_BITS), return_index=True)
            totals = np.add.reduceat(counts, first) if len(first) else counts
            kinds = np.diff(np.append(first, len(grams)))
            n_hc = _lookup(grams, counts, seen)
            n_h = _lookup(histories, totals, seen >> np.uint64(_BITS))
            t_h = _lookup(histories, kinds, seen >> np.uint64(_BITS))
            weight = n_h + t_h
            known = weight > 0
            p[known] = (n_hc[known] + t_h[known] * p[known]) / weight[known]
        costs = -np.log(p)
        costs[codes == _START] = 0.0
        return np.add.reduceat(costs, starts)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The model as named arrays, for files."""
        named: dict[str, npt.NDArray[np.generic]] = {}
        for k, (grams, counts) in enumerate(zip(self.grams, self.counts, strict=True)):
            named[f"grams{k}"], named[f"counts{k}"] = grams, counts
        return named

    @classmethod
    def from_arrays(cls, named: dict[str, npt.NDArray[np.generic]]) -> CharNgramModel:
        """Return the model that ``arrays`` gave.

        Raises:
            ValueError: the arrays are not those of a model.
        """
        order = len(named) // 2
        for k in range(order):
            grams, counts = named.get(f"grams{k}"), named.get(f"counts{k}")
            if grams is None or counts is None:
                raise ValueError("its arrays are not those of a spelling model")
            if grams.ndim != 1 or grams.shape != counts.shape:
                raise ValueError("its arrays do not fit together")
            are_whole = all(array.dtype.kind in "iu" for array in (grams, counts))
            if not are_whole or (len(counts) and counts.min() < 1):
                raise ValueError("its counts are not positive whole numbers")
        return cls(
            tuple(named[f"grams{k}"].astype(np.uint64) for k in range(order)),
            tuple(named[f"counts{k}"].astype(np.int64) for k in range(order)),
        )


def _codes(words: Sequence[str]) -> tuple[UInt64, Int64]:
    """Code points of all words in a row, marks around each of them; where each word starts."""
    # The two marks themselves, should a word hold them, are spelt as U+FFFD.
    clean = (word.translate({_START: 0xFFFD, _END: 0xFFFD}) for word in words)
    joined = "".join(f"{chr(_START)}{word}{chr(_END)}" for word in clean)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = np.fromiter((len(word) + 2 for word in words), np.int64, len(words))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(words) else lengths
    return codes.astype(np.uint64), starts.astype(np.int64)


def _windows(codes: UInt64, k: int) -> UInt64:
    """For every place the code points of the k places before it and its own, packed.

    Before the start of a word there is nothing but start marks, whatever word stands before it.
    """
    packed = codes.copy()
    alive = codes != _START
    for back in range(1, k + 1):
        before = np.full_like(codes, _START)
        before[back:] = codes[:-back]
        # Once a start mark was met, everything further back is a start mark as well.
        before = np.where(alive, before, np.uint64(_START))
        alive &= before != _START
        packed |= before << np.uint64(_BITS * back)
    return packed


def _lookup(keys: UInt64, values: Int64, wanted: UInt64) -> npt.NDArray[np.float64]:
    """``values`` at the places of ``wanted`` in the sorted ``keys``; 0 where it is missing."""
    if not len(keys):
        return np.zeros(len(wanted))
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0).astype(np.float64)
