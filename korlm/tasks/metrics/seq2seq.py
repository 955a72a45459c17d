"""Metrics of generated texts against one reference each.

All of them are functions of counts that add up over pairs of texts, so that processes can sum their
counts and a bootstrap can resample pairs. chrF and BLEU equal those of sacrebleu with its default
settings (Post 2018). Texts are compared after NFC, with single spaces.

Axes: P pairs, C counts.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

Counts = npt.NDArray[np.int64]

CHRF_ORDER = 6
CHRF_BETA = 2  # weight of recall
BLEU_ORDER = 4
NUM_COUNTS = 4 + 3 * CHRF_ORDER + 2 + 2 * BLEU_ORDER

# mteval-v13a: ASCII symbols but ' , - . are tokens; , and . unless between digits, - after a digit.
_RULES = [
    (re.compile(r"([!-&(-+/:-@\[-`{-~])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}


def normalize(text: str) -> str:
    """Return the NFC of a text with single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def count_pairs(hypotheses: Sequence[str], references: Sequence[str]) -> Counts:
    """Return the counts of each pair of texts, (P, NUM_COUNTS).

    In this order: 1, equal texts, edit distance in characters, characters of the reference; for
    character n-grams of each order those of the hypothesis, of the reference and of both; tokens of
    the hypothesis and the reference; for token n-grams those of both, then those of the hypothesis.
    """
    rows = [_count(*pair) for pair in zip(hypotheses, references, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(-1, NUM_COUNTS)


def metrics_of(counts: Counts) -> dict[str, float]:
    """Return the metrics of counts that were summed over pairs, (C,).

    ``exact_match`` and ``cer`` are ratios (NaN without pairs or references), ``chrf`` and ``bleu``
    lie in [0, 100].
    """
    num_pairs, num_equal, errors, num_chars, *rest = (int(count) for count in counts)
    chars, tokens = rest[: 3 * CHRF_ORDER], rest[3 * CHRF_ORDER :]
    return {
        "exact_match": num_equal / num_pairs if num_pairs else math.nan,
        "cer": errors / num_chars if num_chars else math.nan,
        "chrf": _chrf(chars),
        "bleu": _bleu(tokens[0], tokens[1], tokens[2 : 2 + BLEU_ORDER], tokens[2 + BLEU_ORDER :]),
    }


def _count(hypothesis: str, reference: str) -> list[int]:
    hypothesis, reference = normalize(hypothesis), normalize(reference)
    counts = [1, hypothesis == reference, Levenshtein.distance(hypothesis, reference)]
    counts.append(len(reference))
    chars, reference_chars = hypothesis.replace(" ", ""), reference.replace(" ", "")
    for order in range(1, CHRF_ORDER + 1):
        ours, theirs = _ngrams(chars, order), _ngrams(reference_chars, order)
        # As in sacrebleu, an order that the reference is too short for does not count.
        counts += [ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()]
    tokens, reference_tokens = _tokenize(hypothesis), _tokenize(reference)
    counts += [len(tokens), len(reference_tokens)]
    ngrams = [(_ngrams(tokens, n), _ngrams(reference_tokens, n)) for n in range(1, BLEU_ORDER + 1)]
    counts += [(ours & theirs).total() for ours, theirs in ngrams]
    return counts + [ours.total() for ours, _ in ngrams]


def _ngrams(units: Sequence[str], order: int) -> Counter[Sequence[str]]:
    return Counter(units[i : i + order] for i in range(len(units) - order + 1))


def _tokenize(text: str) -> tuple[str, ...]:
    for entity, char in _ENTITIES.items():
        text = text.replace(entity, char)
    text = f" {text} "
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return tuple(text.split())


def _chrf(counts: Sequence[int]) -> float:
    """Return chrF2 (Popović 2015, 2016): F of the mean precision and the mean recall of orders."""
    orders = [counts[i : i + 3] for i in range(0, len(counts), 3)]
    shares = [(both / ours, both / theirs) for ours, theirs, both in orders if ours and theirs]
    precision = sum(share[0] for share in shares) / max(1, len(shares))
    recall = sum(share[1] for share in shares) / max(1, len(shares))
    if precision + recall == 0:
        return 0.0
    weight = CHRF_BETA**2
    return 100 * (1 + weight) * precision * recall / (weight * precision + recall)


def _bleu(
    length: int, reference_length: int, matches: Sequence[int], totals: Sequence[int]
) -> float:
    """Return BLEU (Papineni et al. 2002); an order without a match has 1/2, 1/4, ... of one."""
    if not any(matches) or not all(totals):
        return 0.0
    log_precisions, smoothing = 0.0, 1.0
    for match, total in zip(matches, totals, strict=True):
        if match == 0:
            smoothing /= 2
        log_precisions += math.log((match or smoothing) / total)
    brevity = min(0.0, 1 - reference_length / length)
    return 100 * math.exp(log_precisions / len(matches) + brevity)
