"""Estimate n-gram probabilities and backoff weights from counts: Kneser-Ney, MLE or add-k.

All produce the tables of an ARPA file: p(token | context) is the probability of the longest known
n-gram that ends in the token, times the backoff weights of the longer known contexts.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.config import NgramConfig, Smoothing
from korlm.dataset.vocab import BOS_ID, PAD_ID
from korlm.models.ngram.columns import Array, Column, Columns
from korlm.models.ngram.counts import Bool, Int64, NgramCounts

logger = logging.getLogger(__name__)

Float64 = npt.NDArray[np.float64]

FALLBACK = (0.5, 1.0, 1.5)  # lmplz's --discount_fallback
NO_KEY = np.iinfo(np.int64).max  # a key that no n-gram has


@dataclass(frozen=True)
class NgramTable:
    """N n-grams of order k, sorted by ``keys``.

    A table of order 2 or above may end in a row for unknown n-grams, a sentinel with the key
    ``NO_KEY``: those of ``estimate`` do, those of ``NgramLM.tables`` do not.

    Attributes:
        keys: (N,) row of the first k - 1 tokens in the table of order k - 1, times V, plus the id
            of the last token.
        log_probs: (N,) natural log of p(last token | the tokens before it).
        backoffs: (N,) natural log of the backoff weight of the n-gram as a context.
    """

    keys: Int64
    log_probs: npt.NDArray[np.floating[Any]]
    backoffs: npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class _ContextBlock:
    """n consecutive n-grams of order k: all those of c contexts, which are the first k - 1 tokens.

    Tables are estimated block by block, which bounds the memory for intermediate arrays.

    Attributes:
        is_longest: whether k is the highest order.
        counts: (n,) occurrences.
        adjusted: (n,) adjusted counts of Kneser-Ney, see ``_adjusted_counts``.
        is_kept: (n,) whether the n-gram is not pruned.
        starts_sentence: (n,) whether the first token is the start of a sentence.
        contexts: (n,) index of the context within the block, ascending.
        num_contexts: c.
        lower_probs: (n,) probability of the last token after the context without its first token,
            from the table of order k - 1.
    """

    is_longest: bool
    counts: Int64
    adjusted: Int64
    is_kept: Bool
    starts_sentence: Bool
    contexts: Int64
    num_contexts: int
    lower_probs: Float64

    def sum(self, values: Array) -> Float64:
        """Return the sums of the contexts, (c,)."""
        sums = np.bincount(self.contexts, values, minlength=self.num_contexts)
        return sums.astype(np.float64)


# Block -> probabilities (n,), and backoff weights of the contexts (c,), 1 if nothing follows one.
_Formula = Callable[[_ContextBlock], tuple[Float64, Float64]]


def estimate(
    levels: Iterable[NgramCounts],
    config: NgramConfig,
    columns: Columns,
    check: Callable[[], None] = lambda: None,
) -> list[NgramTable]:
    """Return the tables of all orders, of 32-bit floats, with the smoothing of the settings.

    Those of orders 2 and above end in a row for unknown n-grams: ``NO_KEY`` and logs of 0. The
    counts in ``levels`` are freed. ``check`` is called between blocks and may raise to stop.
    """
    estimator = _Estimator(config, columns, check)
    # An order is estimated when the next one is counted.
    for level, longer in itertools.pairwise(itertools.chain(levels, [None])):
        assert level is not None
        estimator.add(level, longer)
    return estimator.tables


class _Estimator:
    """Estimates the tables order by order."""

    def __init__(self, config: NgramConfig, columns: Columns, check: Callable[[], None]) -> None:
        self.tables: list[NgramTable] = []
        self._config, self._columns, self._check = config, columns, check
        self._vocab_size = 0
        # Of the n-grams of the previous order: probabilities in double precision, and their ids
        # after pruning, -1 if pruned. None: there is no previous order; nothing is pruned.
        self._probs: Column | None = None
        self._ids_after_pruning: Column | None = None

    def add(self, level: NgramCounts, longer: NgramCounts | None) -> None:
        """Add the table of the next order; its counts are freed, those of ``longer`` are not."""
        order = len(self.tables) + 1
        if order == 1:
            self._vocab_size = len(level)
        threshold = self._config.threshold(order)
        adjusted = _adjusted_counts(level, longer, self._columns)
        formula = self._formula(order, adjusted)
        size = _num_above(level.counts, threshold, self._columns) if threshold else len(level)
        size += order > 1  # the row of NO_KEY
        floats = (np.zeros(size, np.float32) for _ in range(2))
        table = NgramTable(np.full(size, NO_KEY, np.int64), *floats)
        probs = self._columns.new(np.float64)
        ids_after_pruning = self._columns.new(np.int64) if threshold else None
        num_rows = 0
        for begin, end in self._context_blocks(level.keys) if order > 1 else [(0, len(level))]:
            self._check()
            keys = level.keys.read(begin, end)
            prefixes = keys // self._vocab_size
            first, last = int(prefixes[0]), int(prefixes[-1])
            counts = level.counts.read(begin, end)
            block = _ContextBlock(
                is_longest=longer is None,
                counts=counts,
                adjusted=adjusted.read(begin, end),
                is_kept=counts > threshold if threshold else np.ones(len(counts), np.bool_),
                starts_sentence=level.starts_sentence.read(begin, end),
                contexts=prefixes - first,
                num_contexts=last - first + 1,
                lower_probs=self._lower_probs(level, begin, end),
            )
            values, weights = formula(block)
            if longer is not None:
                probs.append(values)
            if order > 1:
                self._set_backoffs(first, last + 1, weights)
            if self._ids_after_pruning is not None:
                prefixes = self._ids_after_pruning.read(first, last + 1)[prefixes - first]
                keys = prefixes * self._vocab_size + keys % self._vocab_size
            if ids_after_pruning is not None:
                ids = num_rows + np.cumsum(block.is_kept) - 1
                ids_after_pruning.append(np.where(block.is_kept, ids, -1))
                keys, values = keys[block.is_kept], values[block.is_kept]
            rows = slice(num_rows, num_rows + len(keys))
            with np.errstate(divide="ignore"):  # log 0 = -inf is intended
                table.keys[rows], table.log_probs[rows] = keys, np.log(values)
            num_rows = rows.stop
        self.tables.append(table)
        for column in (self._probs, self._ids_after_pruning, adjusted):
            if column is not None and column is not level.counts:
                column.close()
        self._probs, self._ids_after_pruning = probs, ids_after_pruning
        level.close()

    def _lower_probs(self, level: NgramCounts, begin: int, end: int) -> Float64:
        """Return the probabilities of the last tokens after contexts without their first token."""
        if self._probs is None:
            return self._uniform()
        return self._probs.take(level.suffixes.read(begin, end))

    def _context_blocks(self, keys: Column) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows; all n-grams of a context are in the same range."""
        begin, size = 0, self._columns.block_rows
        while begin < len(keys):
            end = begin + size
            if end < len(keys):
                prefixes = keys.read(begin, end + 1) // self._vocab_size
                last = int(np.searchsorted(prefixes, prefixes[-1]))
                if last == 0:  # one context fills the block
                    size *= 2
                    continue
                end = begin + last
            yield begin, min(end, len(keys))
            begin, size = end, self._columns.block_rows

    def _set_backoffs(self, begin: int, end: int, weights: Float64) -> None:
        """Set the backoff weights of contexts, which are n-grams of the order before."""
        with np.errstate(divide="ignore"):
            logs = np.log(weights)
        backoffs = self.tables[-1].backoffs
        if self._ids_after_pruning is None:
            backoffs[begin:end] = logs
        else:
            ids = self._ids_after_pruning.read(begin, end)
            backoffs[ids[ids >= 0]] = logs[ids >= 0]

    def _uniform(self) -> Float64:
        """Return the uniform distribution over the tokens that may be predicted, (V,)."""
        uniform = np.full(self._vocab_size, 1 / (self._vocab_size - 2))
        uniform[[PAD_ID, BOS_ID]] = 0  # never predicted
        return uniform

    def _formula(self, order: int, adjusted: Column) -> _Formula:
        """Return the formula of the smoothing of the settings, with its constants for an order."""
        if self._config.smoothing is Smoothing.kneser_ney:
            sizes = np.zeros(5, np.int64)
            for begin in range(0, len(adjusted), self._columns.block_rows):
                block = adjusted.read(begin, begin + self._columns.block_rows)
                sizes += np.bincount(np.minimum(block, 5), minlength=6)[:5]
            discounts = np.array([0.0, *estimate_discounts(sizes[1:].tolist(), order)])
            return lambda block: _kneser_ney(block, discounts)
        if self._config.smoothing is Smoothing.maximum_likelihood:
            return _maximum_likelihood
        assert self._config.smoothing is Smoothing.add_k
        uniform = self._uniform() if order == 1 else np.full(1, 1 / (self._vocab_size - 2))
        added, num_tokens = self._config.add_k, self._vocab_size - 2
        return lambda block: _add_k(block, uniform, added, num_tokens)


def _num_above(counts: Column, threshold: int, columns: Columns) -> int:
    """Return how many counts are greater than a threshold."""
    size = columns.block_rows
    blocks = (counts.read(begin, begin + size) for begin in range(0, len(counts), size))
    return sum(int((block > threshold).sum()) for block in blocks)


def _adjusted_counts(level: NgramCounts, longer: NgramCounts | None, columns: Columns) -> Column:
    """Return the adjusted counts of Kneser-Ney.

    The longest n-grams use their counts. A shorter one uses the number of distinct tokens before
    it; if it starts a sentence, where no token can precede, its count.
    """
    if longer is None:
        return level.counts
    adjusted = columns.new(level.counts.dtype)
    size = columns.sort_rows or max(len(level), 1)
    for begin in range(0, len(level), size):
        end = min(begin + size, len(level))
        before = np.zeros(end - begin, np.int64)
        for first in range(0, len(longer), columns.block_rows):
            suffixes = longer.suffixes.read(first, first + columns.block_rows)
            if columns.sort_rows is not None:
                suffixes = suffixes[(suffixes >= begin) & (suffixes < end)]
            before += np.bincount(suffixes - begin, minlength=end - begin)
        starts, counts = (c.read(begin, end) for c in (level.starts_sentence, level.counts))
        adjusted.append(np.where(starts, counts, before))
    return adjusted


# --- modified Kneser-Ney -------------------------------------------------------------------------


def _kneser_ney(block: _ContextBlock, discounts: Float64) -> tuple[Float64, Float64]:
    """Estimate interpolated modified Kneser-Ney (Chen and Goodman 1998, section 3), as lmplz does.

    Unigrams are interpolated with the uniform distribution. The probability of pruned n-grams goes
    to the backoff weight, like the discounts, which are those of all n-grams, pruned ones included.
    ``discounts``, (4,), are for adjusted counts of 0, 1, 2, and 3 or more.
    """
    discount = discounts[np.minimum(block.adjusted, 3)]
    total = block.sum(block.adjusted)
    freed = block.sum(np.where(block.is_kept, discount, block.adjusted))
    weight = np.divide(freed, total, out=np.ones(len(total)), where=total > 0)
    own = (block.adjusted - discount) / total[block.contexts]
    return own + weight[block.contexts] * block.lower_probs, weight


def estimate_discounts(sizes: list[int], order: int) -> tuple[float, float, float]:
    """Return D1, D2 and D3+ (Chen and Goodman 1998, equation 26), or lmplz's fallback.

    ``sizes`` are the numbers of n-grams with the adjusted counts 1, 2, 3 and 4.
    """
    n1, n2, n3, n4 = sizes
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 <= discount <= count for count, discount in enumerate(discounts, start=1)):
            return discounts
    logger.warning(
        "order %d: cannot estimate Kneser-Ney discounts (counts of counts %d %d %d %d); falling "
        "back to %s, %s and %s: use more text or a lower model.order",
        *(order, n1, n2, n3, n4, *FALLBACK),
    )
    return FALLBACK


# --- maximum likelihood and add-k -----------------------------------------------------------------


def _maximum_likelihood(block: _ContextBlock) -> tuple[Float64, Float64]:
    """Return relative frequencies; a token unseen after a known context has probability 0.

    An unknown context is replaced by its longest known suffix.
    """
    total = block.sum(block.counts)
    return block.counts / total[block.contexts], np.where(total > 0, 0.0, 1.0)


def _add_k(
    block: _ContextBlock, uniform: Float64, k_added: float, num_tokens: int
) -> tuple[Float64, Float64]:
    """Return (count + k) / (count of the context + k (V - 2)), uniform after an unknown context.

    Only full contexts are used: order - 1 tokens, or back to the start of the sentence. Shorter
    n-grams are in the table, for looking up contexts, with the uniform probability, (n,) or (1,).
    """
    added = k_added * num_tokens
    total = block.sum(block.counts)
    own = (block.counts + k_added) / (total[block.contexts] + added)
    own = np.where(uniform > 0, own, 0.0)
    is_full = block.starts_sentence | block.is_longest
    full_context = np.zeros(block.num_contexts, dtype=bool)
    full_context[block.contexts] = is_full
    weights = np.where(full_context, added / (total + added), 1.0)
    return np.where(is_full, own, uniform), weights
