"""Estimate n-gram probabilities and backoff weights from counts: Kneser-Ney, MLE or add-k.

All produce the tables of an ARPA file: p(token | context) is the probability of the longest known
n-gram that ends in the token, times the backoff weights of the longer known contexts.
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
    """N n-grams of order k, sorted by ``keys``.

    Attributes:
        keys: (N,) id of the first k - 1 tokens * V + last token.
        log_probs: (N,) natural log of p(last token | the tokens before it).
        backoffs: (N,) natural log of the backoff weight of the n-gram as a context.
    """

    keys: Int64
    log_probs: Float64
    backoffs: Float64


def estimate(grams: Sequence[NgramCounts], config: NgramConfig) -> list[NgramTable]:
    """Return the tables of all orders with the smoothing of the settings."""
    vocab_size = len(grams[0].keys)
    uniform = np.full(vocab_size, 1 / (vocab_size - 2))
    uniform[[PAD_ID, BOS_ID]] = 0  # never predicted
    if config.smoothing is Smoothing.kneser_ney:
        probs, weights = _kneser_ney(grams, uniform)
    elif config.smoothing is Smoothing.maximum_likelihood:
        probs, weights = _maximum_likelihood(grams)
    else:
        probs, weights = _add_k(grams, uniform, config.add_k)
    tables = []
    with np.errstate(divide="ignore"):  # log 0 = -inf is intended
        for level, prob, weight in zip(grams, probs, [*weights[1:], None], strict=True):
            backoff = np.zeros(len(prob)) if weight is None else np.log(weight)
            tables.append(NgramTable(level.keys, np.log(prob), backoff))
    return tables


# --- modified Kneser-Ney -------------------------------------------------------------------------


def _kneser_ney(
    grams: Sequence[NgramCounts], uniform: Float64
) -> tuple[list[Float64], list[Float64]]:
    """Estimate interpolated modified Kneser-Ney (Chen and Goodman 1998, section 3), as lmplz does.

    The longest n-grams use their counts. A shorter one uses its adjusted count, the number of
    distinct tokens before it; if it starts a sentence, where no token can precede, its count.
    Unigrams are interpolated with the uniform distribution.

    Returns:
        For each order the probabilities of its n-grams and the backoff weights of their contexts.
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
        total, discount_mass = (
            np.bincount(level.prefixes, values, minlength=size) for values in (adjusted, discounts)
        )
        weight = np.divide(discount_mass, total, out=np.ones(size), where=total > 0)
        lower = uniform if k == 1 else probs[-1][level.suffixes]
        own = (adjusted - discounts) / total[level.prefixes]
        probs.append(own + weight[level.prefixes] * lower)
        weights.append(weight)
    return probs, weights


def estimate_discounts(adjusted: Int64, order: int) -> tuple[float, float, float]:
    """Return D1, D2 and D3+ (Chen and Goodman 1998, equation 26), or lmplz's fallback."""
    n1, n2, n3, n4 = (int((adjusted == count).sum()) for count in (1, 2, 3, 4))
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


def _maximum_likelihood(grams: Sequence[NgramCounts]) -> tuple[list[Float64], list[Float64]]:
    """Return relative frequencies; a token unseen after a known context has probability 0.

    An unknown context is replaced by its longest known suffix.
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
    """Return (count + k) / (count of the context + k (V - 2)), uniform after an unknown context.

    Only full contexts are used: order - 1 tokens, or back to the start of the sentence. Shorter
    n-grams are in the table, for looking up contexts, with the uniform probability.
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
