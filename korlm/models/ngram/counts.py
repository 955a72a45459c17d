"""A stream of ids -> all its n-grams with their counts, at array speed.

An n-gram of order k is named by (id of its first k - 1 tokens, last token), as in a trie. The
stream has <eos> after each sentence, and one is put before the first: so an <eos> at the front of
an n-gram is the beginning of a sentence (KenLM's <s>), one at its end is its end (</s>), and
n-grams with an <eos> in between do not exist. Distinct n-grams are found by sorting, and where an
n-gram stands tells which (k - 1)-gram its last k - 1 tokens are.
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
    """The distinct n-grams of one order k, N of them, sorted by ``keys``; a place is an id.

    The unigrams are all ids of the vocabulary, seen or not: their id is the token's, and
    ``prefixes`` and ``suffixes`` are 0, the empty context.

    Attributes:
        keys: (N,) prefix * V + last token.
        counts: (N,) how often each stands in the stream.
        suffixes: (N,) id of the last k - 1 tokens among the n-grams of order k - 1.
        prefixes: (N,) id of the first k - 1 tokens among them.
        at_start: (N,) whether it begins with the beginning of a sentence.
    """

    keys: Int64
    counts: Int64
    prefixes: Int64
    suffixes: Int64
    starts_sentence: npt.NDArray[np.bool_]


def max_order(ids: npt.NDArray[Any]) -> int:
    """Of the n-grams that a stream holds: the longest sentence with both its ends."""
    ends = np.flatnonzero(np.asarray(ids) == EOS_ID)
    # The last sentence may have no end; where it has one, nothing follows.
    lengths = np.diff(np.concatenate([[-1], ends, [len(ids) - 1]]))
    return 1 + int(lengths.max())


def count_grams(
    ids: npt.NDArray[Any], vocab_size: int, order: int, check: Callable[[], None]
) -> list[NgramCounts]:
    """The n-grams of orders 1 to ``order`` that stand in a stream.

    Args:
        ids: (N,) of train, <eos> after each sentence.
        vocab_size: V.
        order: of the longest n-grams.
        check: called now and then; may raise, to stop.

    Returns:
        One entry for each order, none of which is beyond ``max_order``.
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
    # Where the (k - 1)-grams begin, and the id of the one that begins at each place of the stream.
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
        where = starts[by_key[begins]]
        suffixes = id_at[where + 1].astype(np.int64)
        id_at = np.zeros(len(stream), dtype=np.int32)
        id_at[starts[by_key]] = np.cumsum(is_first, dtype=np.int32) - 1
        keys = keys[begins]
        grams.append(
            NgramCounts(
                keys=keys,
                counts=np.diff(begins, append=len(starts)),
                prefixes=keys // vocab_size,
                suffixes=suffixes,
                starts_sentence=stream[where] == EOS_ID,
            )
        )
    return grams
