"""Compute the statistics of a prepared corpus and write ``statistics.json``.

Among them are fits of Zipf's and Heaps' laws, and the unknown tokens for each vocabulary size.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.config import UnicodeForm, VocabConfig
from korlm.config.metrics import SPLITS
from korlm.config.paths import mend_prepared
from korlm.dataset.prepared import Prepared
from korlm.dataset.statistics.scan import (
    Ints,
    SplitScan,
    Statistics,
    lines_at,
    marks,
    scan_split,
)
from korlm.dataset.storage.shards import ShardCounts, split_counts
from korlm.dataset.vocab import SPECIALS, Vocab
from korlm.utils.errors import OutputError, PreparedError, output_errors
from korlm.utils.io.atomic_files import write_json
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PowerLaw:
    """A fit ``y = scale * x ** slope``; ``r_squared`` is that of log y."""

    slope: float
    scale: float
    r_squared: float


def fit_power_law(
    x: npt.ArrayLike, y: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> PowerLaw | None:
    """Fit a line to log x and log y by weighted least squares; None for fewer than two points.

    All arrays have the shape (N,); the weights are those of the squared errors.

    >>> law = fit_power_law([1, 2, 4], [8, 4, 2])
    >>> round(law.slope, 6), round(law.scale, 6), round(law.r_squared, 6)
    (-1.0, 8.0, 1.0)
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(log_x) < 2:
        return None
    w = np.ones(len(log_x)) if weights is None else np.asarray(weights, float)
    w = w / w.sum()
    dx, dy = log_x - w @ log_x, log_y - w @ log_y
    slope = float(w @ (dx * dy) / (w @ dx**2))
    variance = float(w @ dy**2)
    residual = float(w @ (dy - slope * dx) ** 2)
    scale = float(np.exp(w @ log_y - slope * (w @ log_x)))
    return PowerLaw(slope, scale, 1 - residual / variance if variance > 1e-12 else 1.0)


def fit_zipf(frequencies: npt.ArrayLike) -> PowerLaw | None:
    """Fit frequencies in decreasing order, (types,), against rank, with weight 1 / rank.

    The weights make equal intervals of the logarithmic axis count equally. With equal weights the
    rare types, which are nearly all, would dominate.
    """
    ranks = np.arange(1, len(np.asarray(frequencies)) + 1)
    return fit_power_law(ranks, frequencies, 1 / ranks)


def fit_heaps(growth: Sequence[tuple[int, int]]) -> PowerLaw | None:
    """Fit the number of different morphs against the number of morphs, from pairs of the two."""
    return fit_power_law([n for n, _ in growth], [types for _, types in growth])


class Coverage:
    """Number of unknown tokens in a text for vocabularies of different sizes, built from train.

    ``train`` and ``text`` are counts of tokens; the size in ``config`` is ignored.
    """

    def __init__(
        self, train: Mapping[str, int], text: Mapping[str, int], config: VocabConfig
    ) -> None:
        vocab = Vocab(train, dataclasses.replace(config, min_freq=1, max_size=None))
        self.frequencies = np.array(vocab.counts[len(SPECIALS) :], np.int64)  # decreasing
        ranks = vocab.encode(text) - len(SPECIALS)
        counts = np.fromiter(text.values(), np.int64, len(text))
        known = ranks >= 0
        per_rank = np.bincount(ranks[known], counts[known], len(self.frequencies)).astype(np.int64)
        self._unknown = int(counts.sum()) - np.concatenate([[0], np.cumsum(per_rank)])

    def num_unknown(self, size: int) -> int:
        """Return the number of unknown tokens, given the ``size`` most frequent types."""
        return int(self._unknown[min(size, len(self.frequencies))])

    def size_of(self, min_freq: int) -> int:
        """Return the number of types that occur at least ``min_freq`` times in train."""
        return int(np.searchsorted(-self.frequencies, -min_freq, side="right"))

    def row(self, size: int, num_tokens: int) -> dict[str, Any]:
        """Return a point of the curve for statistics.json; the size excludes special tokens."""
        num_unk = self.num_unknown(size)
        return {"size": size, "num_unk": num_unk, "rate": num_unk / max(num_tokens, 1)}


JSON, PICTURE = "statistics.json", "frequencies.png"
MAX_MIN_FREQ = 5
FIRST_RANKS = (*range(1, 11), 20, 50)  # ranks that are listed, besides 100, 200, 500 ...
NUM_REPEATED = 5  # most frequent lines of train that are listed
TEXT_CHARS = 200


def collect(prepared: Prepared) -> tuple[Statistics, Ints]:
    """Compute the statistics of a prepared corpus.

    Returns:
        The statistics, and the frequencies of the morphs of train in decreasing order (types,).

    Raises:
        PreparedError: shards are damaged or missing.
    """
    counts = _verified_counts(prepared)
    total = sum(split.num_lines for split in counts.values())
    scans: dict[str, SplitScan] = {}
    train_hashes = None
    unicode = UnicodeForm(prepared.manifest["settings"]["corpus"]["unicode"])
    with ProgressBar(total=total, desc="counting", unit="line", unit_scale=True, delay=1) as bar:
        for split in counts:
            scans[split] = scan_split(
                prepared.folder / "tokens", split, train_hashes, unicode, bar.update
            )
            if split == "train":
                train_hashes = np.unique(scans[split].hashes())
    train = scans["train"]
    ranked = sorted(train.counts.items(), key=lambda item: (-item[1], item[0]))
    frequencies = np.fromiter((count for _, count in ranked), np.int64, len(ranked))
    ranks = [*(rank for rank in FIRST_RANKS if rank <= len(ranked)), *marks(100, len(ranked))]
    statistics = {
        "fingerprint": prepared.fingerprint,
        "tokenizer": prepared.manifest["settings"]["tokenizer"]["name"],
        "splits": {
            split: _split(scan, counts[split], is_train=split == "train")
            for split, scan in scans.items()
        },
        "ranks": [
            {"rank": rank, "morph": ranked[rank - 1][0], "count": ranked[rank - 1][1]}
            for rank in ranks
        ],
        "repeated_lines": _repeated(prepared, train.hashes()),
        "unknown": _unknown(prepared, scans),
        "zipf": _law(fit_zipf(frequencies), "least squares of log frequency, weights 1 / rank"),
        "heaps": _law(fit_heaps(train.growth), "least squares of log types at the points of types"),
    }
    return statistics, frequencies


def _verified_counts(prepared: Prepared) -> dict[str, ShardCounts]:
    """Return the counts of each split, train first; raise if shards and manifest differ."""
    verified = {}
    for split in (name for name in SPLITS if name in prepared.stats):
        stats = prepared.stats[split]
        counts = split_counts(prepared.folder / "tokens", split)
        if (counts.num_lines, counts.num_tokens) != (stats.num_lines, stats.num_tokens):
            raise PreparedError(
                f"{prepared.folder / 'tokens'}: holds {counts.num_lines} lines of {split}, the "
                f"manifest says {stats.num_lines}; give report=false, or "
                + mend_prepared(prepared.folder)
            )
        verified[split] = counts
    return verified


def write(prepared: Prepared, statistics: Statistics, frequencies: Ints) -> None:
    """Write statistics.json and the plot into the prepared corpus; log a warning on errors."""
    from korlm.dataset.statistics.plots import draw_frequencies

    try:
        with output_errors(prepared.folder):
            write_json(prepared.folder / JSON, statistics)
            draw_frequencies(prepared.folder / PICTURE, statistics, frequencies)
    except OutputError as error:
        logger.warning("%s; the report is not saved", error)
    else:
        logger.info("%s: %s, %s", prepared.folder, JSON, PICTURE)


def _split(scan: SplitScan, counts: ShardCounts, is_train: bool) -> Statistics:
    num_duplicates = counts.num_sentences - len(np.unique(scan.hashes()))
    sizes = np.array(list(scan.line_lengths.items()), np.int64).reshape(-1, 2)
    lengths = np.repeat(sizes[:, 0], sizes[:, 1])  # number of morphs of each line
    statistics: Statistics = {
        "num_lines": counts.num_lines,
        "num_blank_lines": counts.num_lines - counts.num_sentences,
        "num_sentences": counts.num_sentences,
        "num_eojeol": counts.num_eojeol,
        "num_morphs": counts.num_morphs,
        "num_chars": counts.num_chars,
        "num_types": len(scan.counts),
        "num_hapaxes": sum(count == 1 for count in scan.counts.values()),
        "type_token_ratio": len(scan.counts) / max(counts.num_morphs, 1),
        "morphs_per_line": {
            "mean": counts.num_morphs / max(counts.num_sentences, 1),
            "median": float(np.median(lengths)) if len(lengths) else 0.0,
            "max": max(scan.line_lengths, default=0),
        },
        "num_duplicate_lines": num_duplicates,
        "duplicate_share": num_duplicates / max(counts.num_sentences, 1),
    }
    if not is_train:
        statistics |= {
            "num_lines_in_train": scan.num_in_train,
            "lines_in_train_share": scan.num_in_train / max(counts.num_sentences, 1),
            "morphs_in_train_share": scan.num_morphs_in_train / max(counts.num_morphs, 1),
        }
    return statistics | {
        "status": counts.status,
        "num_dropped": counts.num_dropped,
        "longest_lines": [line._asdict() for line in scan.longest],
        "types": [{"num_morphs": n, "num_types": types} for n, types in scan.growth],
    }


def _repeated(prepared: Prepared, hashes: Ints) -> list[Statistics]:
    """Return the most frequent lines of train."""
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    top = np.lexsort((first, -counts))[:NUM_REPEATED]
    top = top[counts[top] > 1]
    lines = lines_at(prepared.folder / "tokens", "train", first[top].tolist())
    return [
        {"count": int(count), "doc_id": doc_id, "line": line, "text": text[:TEXT_CHARS]}
        for count, (doc_id, line, text) in zip(counts[top], lines, strict=True)
    ]


def _unknown(prepared: Prepared, scans: Mapping[str, SplitScan]) -> Statistics:
    """Return the unknown tokens of valid for several vocabularies; rates include <eos>."""
    coverage = Coverage(scans["train"].counts, scans["valid"].counts, prepared.vocab_config)
    num_tokens = prepared.stats["valid"].num_tokens
    num_types = len(coverage.frequencies)
    sizes = [*(size for size in marks(100, num_types) if size < num_types), num_types]
    sizes_by_min_freq = [coverage.size_of(min_freq) for min_freq in range(1, MAX_MIN_FREQ + 1)]
    return {
        "split": "valid",
        "num_tokens": num_tokens,
        "chosen": coverage.row(len(prepared.vocab) - len(SPECIALS), num_tokens),
        "by_size": [coverage.row(size, num_tokens) for size in sizes],
        "by_min_freq": [
            {"min_freq": min_freq, **coverage.row(size, num_tokens)}
            for min_freq, size in enumerate(sizes_by_min_freq, 1)
        ],
    }


def _law(law: PowerLaw | None, method: str) -> Statistics | None:
    return None if law is None else {**dataclasses.asdict(law), "method": method}
