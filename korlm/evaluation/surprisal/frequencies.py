"""Count tokens and eojeols in train, for the log frequencies of surprisal tables."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from korlm.config import UnicodeForm
from korlm.corpus.normalization import normalize_all
from korlm.dataset.prepared import open_prepared
from korlm.dataset.storage.shards import read_columns, shard_paths
from korlm.dataset.storage.token_counts import add_tokens
from korlm.dataset.vocab import SPECIALS
from korlm.evaluation.token_scores import Ints
from korlm.runs.trained_run import TrainedRun, training_corpus
from korlm.text.eojeol import split_units
from korlm.utils.errors import PreparedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainCounts:
    """Counts in train.

    Attributes:
        tokens: (V,), count of each id; 0 for the special tokens, <unk> included.
        eojeols: eojeol -> count; None: unknown.
    """

    tokens: Ints
    eojeols: Mapping[str, int] | None = None

    def of_eojeols(self, eojeols: pa.Array) -> Ints:
        """Return the count of each eojeol of an array; 0 for null."""
        assert self.eojeols is not None
        values = [self.eojeols.get(eojeol, 0) for eojeol in eojeols.to_pylist()]
        return np.array(values, dtype=np.int64)


def train_counts(run: TrainedRun, eojeols: bool) -> TrainCounts:
    """Return the counts of the text that a run was trained on.

    The eojeols of its prepared corpus are counted on request; they remain unknown if it is gone.
    """
    tokens = np.array(run.vocab.counts)
    tokens[: len(SPECIALS)] = 0
    if not eojeols:
        return TrainCounts(tokens)
    try:
        folder = training_corpus(run)
        unicode = run.settings.corpus.unicode
        return TrainCounts(tokens, _count_eojeols(folder, run.fingerprint, unicode))
    except PreparedError as error:
        logger.warning("eojeols have no log_frequency: %s", error)
        return TrainCounts(tokens)


@functools.lru_cache(maxsize=1)
def _count_eojeols(folder: Path, fingerprint: str, unicode: UnicodeForm) -> Mapping[str, int]:
    """Count the eojeols of the training split of a prepared corpus.

    Raises:
        PreparedError: it is damaged or has changed.
    """
    open_prepared(folder, fingerprint)
    counts: Counter[str] = Counter()
    for path in shard_paths(folder / "tokens", "train"):
        for batch in read_columns(path, ["text"]):
            _, units = split_units(normalize_all(batch.column("text").to_pylist(), unicode))
            add_tokens(counts, units)
    return counts
