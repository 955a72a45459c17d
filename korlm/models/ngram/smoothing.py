"""Counts of n-grams -> probabilities and backoff weights, in the three ways that are offered.

All of them end in the same tables, those of an ARPA file: the probability of a token after a
context is that of the longest n-gram of both that is in the table, times the backoff weights of the
longer contexts that are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korlm.config import NgramConfig, Smoothing
from korlm.dataset.vocab import BOS_ID, PAD_ID
from korlm.models.ngram.counts import Int64, NgramCounts

logger = logging.getLogger(__name__)


Float64 = npt.NDArray[np.float64]


FALLBACK = (0.5, 1.0, 1.5)  # lmplz's --discount_fallback


@dataclass(frozen=True)
class NgramTable:
    """The n-grams of one order, N of them, sorted by ``keys``.

    Attributes:
        keys: (N,) id of the first k - 1 tokens * V + last token.
        log_probs: (N,) natural log of the last token's probability after the others.
        backoffs: (N,) natural log of the weight of shorter contexts where the n-gram is a context.
    """

    keys: Int64
    log_probs: Float64
    backoffs: Float64


def estimate(grams: Sequence[NgramCounts], config: NgramConfig) -> list[NgramTable]:
    """The tables of all orders from the counts of the same orders."""
    vocab_size = len(grams[0].keys)
    uniform = np.full(vocab_size, 1 / (vocab_size - 2))
    uniform[[PAD_ID, BOS_ID]] = 0  # nothing that a text can hold
    if config.smoothing is Smoothing.kneser_ney:
        probs, weights = _kneser_ney(grams, uniform)
    elif config.smoothing is Smoothing.maximum_likelihood:
        probs, weights = _maximum_likelihood(grams)
    else:
        probs, weights = _add_k(grams, uniform, config.add_k)
    tables = []
    with np.errstate(divide="ignore"):  # log of 0 is -inf, and is meant
        for level, prob, weight in zip(grams, probs, [*weights[1:], None], strict=True):
            backoff = np.zeros(len(prob)) if weight is None else np.log(weight)
            tables.append(NgramTable(level.keys, np.log(prob), backoff))
    return tables


# --- modified Kneser-Ney -------------------------------------------------------------------------


def _kneser_ney(
    grams: Sequence[NgramCounts], uniform: Float64
) -> tuple[list[Float64], list[Float64]]:
    """Interpolated modified Kneser-Ney (Chen and Goodman 1998, section 3) as KenLM's lmplz has it.

    The longest n-grams have their counts; a shorter one has the number of tokens that stand before
    it somewhere, unless it begins a sentence, where nothing can stand before it: then its count.
    Unigrams are interpolated with the uniform distribution.

    Returns:
        Of each order the probabilities of its n-grams, and the weights of the contexts before them.
    """
    probs: list[Float64] = []
    weights: list[Float64] = []
    for k, level in enumerate(grams, start=1):
        adjusted = level.counts
        if k < len(grams):
            before = np.bincount(grams[k].suffixes, minlength=len(level.keys))
            adjusted = np.where(level.starts_sentence, level.counts, before)
        discounts = np.array([0.0, *estimate_discounts(adjusted, k)])[np.minimum(adjusted, 3)]
        size = 1 if k == 1 else len(probs[-1])
        total, kept = (
            np.bincount(level.prefixes, values, minlength=size) for values in (adjusted, discounts)
        )
        weight = np.divide(kept, total, out=np.ones(size), where=total > 0)
        lower = uniform if k == 1 else probs[-1][level.suffixes]
        own = (adjusted - discounts) / total[level.prefixes]
        probs.append(own + weight[level.prefixes] * lower)
        weights.append(weight)
    return probs, weights


def estimate_discounts(adjusted: Int64, order: int) -> tuple[float, float, float]:
    """D1, D2 and D3+ of Chen and Goodman, equation 26, or lmplz's fallback for tiny texts."""
    n1, n2, n3, n4 = (int((adjusted == count).sum()) for count in (1, 2, 3, 4))
    if n1 and n2 and n3:
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 <= discount <= most for most, discount in enumerate(found, start=1)):
            return found
    logger.warning(
        "order %d: no discounts can be worked out from its n-grams (%d stand once, %d twice, %d "
        "three times, %d four times); takes %s, %s and %s: more text or a lower model.order helps",
        *(order, n1, n2, n3, n4, *FALLBACK),
    )
    return FALLBACK


# --- the two simple ones -------------------------------------------------------------------------


def _maximum_likelihood(grams: Sequence[NgramCounts]) -> tuple[list[Float64], list[Float64]]:
    """Shares of the counts; what never followed a known context has probability 0.

    Where a context is unknown, the longest part of it that is known decides.
    """
    probs: list[Float64] = []
    weights: list[Float64] = []
    for k, level in enumerate(grams, start=1):
        size = 1 if k == 1 else len(probs[-1])
        total = np.bincount(level.prefixes, level.counts, minlength=size)
        probs.append(level.counts / total[level.prefixes])
        weights.append(np.where(total > 0, 0.0, 1.0))
    return probs, weights


def _add_k(
    grams: Sequence[NgramCounts], uniform: Float64, k_added: float
) -> tuple[list[Float64], list[Float64]]:
    """(count + k) / (count of the context + k (V - 2)), uniform after an unknown context.

    Only full contexts count: of order - 1 tokens, or back to the beginning of the sentence. The
    table holds shorter n-grams too, so that contexts can be found, with the uniform probability.
    """
    added = k_added * (len(uniform) - 2)
    flat = uniform.max()
    probs: list[Float64] = []
    weights: list[Float64] = []
    for k, level in enumerate(grams, start=1):
        size = 1 if k == 1 else len(probs[-1])
        total = np.bincount(level.prefixes, level.counts, minlength=size)
        own = (level.counts + k_added) / (total[level.prefixes] + added)
        if k == 1:
            own = np.where(uniform > 0, own, 0.0)
        is_full = level.starts_sentence | (k == len(grams))
        probs.append(np.where(is_full, own, uniform if k == 1 else flat))
        full_context = np.zeros(size, dtype=bool)
        full_context[level.prefixes] = is_full
        weights.append(np.where(full_context, added / (total + added), 1.0))
    return probs, weights
