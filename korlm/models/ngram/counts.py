"""Count all n-grams of a stream of ids with NumPy.

An n-gram of order k is identified by (id of its first k - 1 tokens, last token), as in a trie. The
stream has <eos> after each sentence and one before the first. An <eos> that starts an n-gram is the
start of a sentence (KenLM's <s>), one that ends it is the end (</s>), and n-grams with <eos> in
between are not counted. Distinct n-grams are identified by sorting their keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.dataset.vocab import EOS_ID

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class NgramCounts:
    """N distinct n-grams of order k, sorted by ``keys``; an index into them is an id.

    Unigrams are all ids of the vocabulary, seen or not; their ``prefixes`` and ``suffixes`` are 0,
    the empty context.

    Attributes:
        keys: (N,) prefix * V + last token.
        counts: (N,) occurrences in the stream.
        prefixes: (N,) id of the first k - 1 tokens among the n-grams of order k - 1.
        suffixes: (N,) id of the last k - 1 tokens among them.
        starts_sentence: (N,) whether the first token is the start of a sentence.
    """

    keys: Int64
    counts: Int64
    prefixes: Int64
    suffixes: Int64
    starts_sentence: npt.NDArray[np.bool_]


def max_order(ids: npt.NDArray[Any]) -> int:
    """Return the order of the longest n-gram of a stream: a sentence with its start and end."""
    ends = np.flatnonzero(np.asarray(ids) == EOS_ID)
    # The last sentence may lack its <eos>.
    lengths = np.diff(np.concatenate([[-1], ends, [len(ids) - 1]]))
    return 1 + int(lengths.max())


def count_grams(
    ids: npt.NDArray[Any], vocab_size: int, order: int, check: Callable[[], None]
) -> list[NgramCounts]:
    """Count the n-grams of orders 1 to ``order``.

    Args:
        ids: (N,), the train split with <eos> after each sentence.
        vocab_size: V.
        order: at most ``max_order(ids)``.
        check: called between orders; it may raise to stop.

    Returns:
        One entry per order.
    """
    stream = np.concatenate([[EOS_ID], ids]).astype(np.int32)
    zeros = np.zeros(vocab_size, dtype=np.int64)
    grams = [
        NgramCounts(
            keys=np.arange(vocab_size),
            counts=np.bincount(ids, minlength=vocab_size).astype(np.int64),
            prefixes=zeros,
            suffixes=zeros,
            starts_sentence=np.zeros(vocab_size, dtype=bool),
        )
    ]
    # Positions of the stream at which a (k - 1)-gram starts, and the id of the one that does.
    starts: Int32 = np.arange(len(stream), dtype=np.int32)
    id_at = stream
    for k in range(2, order + 1):
        check()
        starts = starts[: np.searchsorted(starts, len(stream) - k, side="right")]
        if k > 2:
            starts = starts[stream[starts + (k - 2)] != EOS_ID]
        keys = id_at[starts] * np.int64(vocab_size) + stream[starts + (k - 1)]
        by_key = np.argsort(keys)
        keys = keys[by_key]
        is_first = np.concatenate([[True], keys[1:] != keys[:-1]])
        begins = np.flatnonzero(is_first)
        first_start = starts[by_key[begins]]
        suffixes = id_at[first_start + 1].astype(np.int64)
        id_at = np.zeros(len(stream), dtype=np.int32)
        id_at[starts[by_key]] = np.cumsum(is_first, dtype=np.int32) - 1
        keys = keys[begins]
        grams.append(
            NgramCounts(
                keys=keys,
                counts=np.diff(begins, append=len(starts)),
                prefixes=keys // vocab_size,
                suffixes=suffixes,
                starts_sentence=stream[first_start] == EOS_ID,
            )
        )
    return grams
