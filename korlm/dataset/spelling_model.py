r"""Spelling model: the cost, in nats, of generating an unknown word character by character.

An interpolated character n-gram model with the weights of Witten and Bell (1991), as given by Chen
and Goodman (1998, section 2.5): with n(h) occurrences of a history h and t(h) different characters
after it,

    p(c | h) = (n(h, c) + t(h) p(c | h')) / (n(h) + t(h)),   h' = h without its first character,

down to a uniform distribution over all characters of Unicode and the end of the word. It is trained
on the different tokens of train, each counted once, because it models how words are spelt and not
how often they occur. All operations are on sorted arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# All code points but the 2,048 surrogates, and the end of the word.
UNIFORM = 1.0 / (1_114_112 - 2_048 + 1)
ORDER = 3  # length of the longest n-grams; three code points fill 63 bits
_START, _END, _BITS = 1, 2, 21  # a code point has 21 bits
_CHUNK = 1 << 18  # words whose n-grams are counted at once

UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CharNgramModel:
    """Counts of character n-grams up to ``ORDER``.

    Attributes:
        grams: for each k, the sorted different (k + 1)-grams, 21 bits per character.
        counts: for each k, the number of occurrences of each (k + 1)-gram.
    """

    grams: tuple[UInt64, ...]
    counts: tuple[Int64, ...]

    @classmethod
    def train(cls, words: Iterable[str]) -> CharNgramModel:
        """Count the n-grams of words, each of which is different."""
        grams = [np.zeros(0, np.uint64)] * ORDER
        counts = [np.zeros(0, np.int64)] * ORDER
        words = iter(words)
        while chunk := list(itertools.islice(words, _CHUNK)):
            codes, _ = _codes(chunk)
            for k in range(ORDER):
                # A window that ends in a start symbol belongs to no word.
                new, count = np.unique(_windows(codes, k)[codes != _START], return_counts=True)
                grams[k], counts[k] = _add_up([grams[k], new], [counts[k], count])
        return cls(tuple(grams), tuple(counts))

    def nats(self, words: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return the cost of spelling each word and its end, -ln p; shape (len(words),)."""
        if not words:
            return np.zeros(0)
        codes, starts = _codes(words)
        p = np.full(len(codes), UNIFORM)
        for k, (grams, counts) in enumerate(zip(self.grams, self.counts, strict=True)):
            windows = _windows(codes, k)
            histories, first = np.unique(grams >> np.uint64(_BITS), return_index=True)
            totals = np.add.reduceat(counts, first) if len(first) else counts
            num_continuations = np.diff(np.append(first, len(grams)))
            n_hc = _lookup(grams, counts, windows)
            n_h = _lookup(histories, totals, windows >> np.uint64(_BITS))
            t_h = _lookup(histories, num_continuations, windows >> np.uint64(_BITS))
            weight = n_h + t_h
            known = weight > 0
            p[known] = (n_hc[known] + t_h[known] * p[known]) / weight[known]
        costs = -np.log(p)
        costs[codes == _START] = 0.0
        return np.add.reduceat(costs, starts)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the model as named arrays, for files."""
        named: dict[str, npt.NDArray[np.generic]] = {}
        for k, (grams, counts) in enumerate(zip(self.grams, self.counts, strict=True)):
            named[f"grams{k}"], named[f"counts{k}"] = grams, counts
        return named

    @classmethod
    def from_arrays(cls, named: dict[str, npt.NDArray[np.generic]]) -> CharNgramModel:
        """Build the model of ``arrays``.

        Raises:
            ValueError: the arrays are not those of a model.
        """
        for k in range(ORDER):
            grams, counts = named.get(f"grams{k}"), named.get(f"counts{k}")
            if grams is None or counts is None:
                raise ValueError("its arrays are not those of a spelling model")
            if grams.ndim != 1 or grams.shape != counts.shape:
                raise ValueError("its arrays have different shapes")
            are_integers = all(array.dtype.kind in "iu" for array in (grams, counts))
            if not are_integers or (len(counts) and counts.min() < 1):
                raise ValueError("its counts are not positive integers")
        return cls(
            tuple(named[f"grams{k}"].astype(np.uint64) for k in range(ORDER)),
            tuple(named[f"counts{k}"].astype(np.int64) for k in range(ORDER)),
        )


def _add_up(keys: list[UInt64], values: list[Int64]) -> tuple[UInt64, Int64]:
    """Return the sorted different keys, and the sum of the values of each."""
    unique, index = np.unique(np.concatenate(keys), return_inverse=True)
    sums = np.zeros(len(unique), np.int64)
    np.add.at(sums, index, np.concatenate(values))
    return unique, sums


def _codes(words: Sequence[str]) -> tuple[UInt64, Int64]:
    """Concatenate words, each between a start and an end symbol.

    Returns:
        The code points (N,) and the index of each start symbol (len(words),).
    """
    # A word may contain the code points of the two symbols; they are replaced by U+FFFD.
    clean = (word.translate({_START: 0xFFFD, _END: 0xFFFD}) for word in words)
    joined = "".join(f"{chr(_START)}{word}{chr(_END)}" for word in clean)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    lengths = np.fromiter((len(word) + 2 for word in words), np.int64, len(words))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(words) else lengths
    return codes.astype(np.uint64), starts.astype(np.int64)


def _windows(codes: UInt64, k: int) -> UInt64:
    """Return, for each code point, the window of it and its k predecessors as one integer.

    The predecessors of the first character of a word are all start symbols.
    """
    packed = codes.copy()
    within_word = codes != _START
    for back in range(1, k + 1):
        before = np.full_like(codes, _START)
        before[back:] = codes[:-back]
        before = np.where(within_word, before, np.uint64(_START))
        within_word &= before != _START
        packed |= before << np.uint64(_BITS * back)
    return packed


def _lookup(keys: UInt64, values: Int64, queries: UInt64) -> npt.NDArray[np.float64]:
    """Return the value of each query, where ``keys`` is sorted; 0 for a missing key."""
    if not len(keys):
        return np.zeros(len(queries))
    index = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[index] == queries, values[index], 0).astype(np.float64)
