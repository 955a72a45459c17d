"""Maps tokens to ids.

A shard becomes one array of ids, ``ids/<split>-<number>.npy``: the tokens of all its lines in
order, and <eos> after each line that is not blank. Python loops run over different tokens only;
everything else is array operations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage.shards import read_columns, read_counts
from korlm.dataset.storage.token_counts import to_list
from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab, id_dtype
from korlm.utils.io.new_files import NewFile


@dataclass(frozen=True)
class EncodedShard:
    """Sums of a shard.

    Attributes:
        num_unk: tokens that are <unk>.
        spelling_nats: cost of spelling all tokens that their ids do not determine.
        crc32: checksum of the ids.
    """

    num_unk: int
    spelling_nats: float
    crc32: str


def encode_shard(
    shard: Path, target: Path, vocab: Vocab, spelling: CharNgramModel, reverse: bool = False
) -> EncodedShard:
    """Write the ids of a shard as a .npy file, uint16 if they fit, else uint32.

    Args:
        shard: with its counts.
        target: the .npy file.
        vocab: maps tokens to ids.
        spelling: cost of spelling unknown words.
        reverse: whether to reverse the tokens of each line; <eos> stays at its end.
    """
    size = read_counts(shard).num_tokens
    dtype = np.dtype(id_dtype(len(vocab))).newbyteorder("<")
    lossy_tokens: Counter[str] = Counter()
    written = 0
    file = NewFile(target)
    try:
        # Not through a memory map, whose pages would count as memory of this process.
        with open(file.path, "wb") as stream:
            header = {"descr": dtype.str, "fortran_order": False, "shape": (size,)}
            np.lib.format.write_array_header_1_0(stream, header)
            for ids in _encode_lines(shard, vocab, lossy_tokens, reverse):
                stream.write(ids.astype(dtype).tobytes())
                written += len(ids)
        assert written == size, f"{shard}: {written} ids written, {size} expected"
        crc32 = file.complete()
    finally:
        file.discard()
    tokens = sorted(lossy_tokens)
    counts = np.array([lossy_tokens[token] for token in tokens], dtype=np.int64)
    num_unk = int(counts[vocab.encode(tokens) == UNK_ID].sum())
    return EncodedShard(num_unk, spelling_nats(spelling, lossy_tokens), crc32)


def _encode_lines(
    shard: Path, vocab: Vocab, lossy_tokens: Counter[str], reverse: bool
) -> Iterator[npt.NDArray[np.int64]]:
    for batch in read_columns(shard, ["morphs", "status"]):
        tokens, indices, token_ids, lossless = encode_morphs(batch.column("morphs"), vocab)
        totals = np.bincount(indices, minlength=len(tokens))
        for index in np.flatnonzero(~lossless):
            lossy_tokens[tokens[index]] += int(totals[index])
        ends = line_lengths(batch.column("morphs"), batch.column("status"))
        ids = token_ids[indices]
        yield insert_eos(reverse_lines(ids, ends - 1) if reverse else ids, ends, EOS_ID)


def encode_morphs(
    morphs: pa.ListArray, vocab: Vocab
) -> tuple[list[str], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Look up each different token of some lines once.

    Args:
        morphs: of each line.
        vocab: maps tokens to ids.

    Returns:
        The K different tokens; the index of each of the N tokens among them, (N,); the ids of the
        different tokens, (K,); and whether each id determines its token exactly, (K,).
    """
    encoded = morphs.flatten().dictionary_encode()
    tokens = to_list(encoded.dictionary)
    token_ids = vocab.encode(tokens)
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return tokens, indices, token_ids, vocab.is_lossless(tokens, token_ids)


def line_lengths(morphs: pa.ListArray, status: pa.StringArray) -> npt.NDArray[np.int64]:
    """Return the number of tokens, <eos> included, of each line that is not blank."""
    lengths = pc.list_value_length(morphs).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    filled: npt.NDArray[np.int64] = lengths[filled_lines(status)]
    return filled


def filled_lines(status: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return a mask of the lines that are not blank."""
    filled: npt.NDArray[np.bool_] = pc.not_equal(status, "empty").to_numpy(zero_copy_only=False)
    return filled


def insert_eos(flat: npt.NDArray[Any], lengths: npt.NDArray[np.int64], end: Any) -> Any:
    """Insert a value after those of each line.

    Args:
        flat: one value per token of all lines, (N,).
        lengths: tokens of each line that is not blank, <eos> included, (lines,).
        end: the value for <eos>.

    Returns:
        An array of N + lines values.
    """
    result = np.full(len(flat) + len(lengths), end, dtype=flat.dtype)
    is_token = np.ones(len(result), dtype=bool)
    is_token[np.cumsum(lengths) - 1] = False
    result[is_token] = flat
    return result


def reverse_lines(flat: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return values with the order within each line reversed.

    Args:
        flat: one value per token of all lines, (N,).
        lengths: tokens of each line, (lines,); the sum is N.

    >>> reverse_lines(np.array([1, 2, 3, 4, 5]), np.array([3, 2])).tolist()
    [3, 2, 1, 5, 4]
    """
    ends = np.cumsum(lengths)
    mirrored = np.repeat(2 * ends - lengths - 1, lengths) - np.arange(len(flat))
    result: npt.NDArray[Any] = flat[mirrored]
    return result


def spelling_nats(model: CharNgramModel, lossy_tokens: Counter[str]) -> float:
    """Return the total cost in nats of spelling tokens.

    Args:
        model: the spelling model.
        lossy_tokens: counts of the tokens.
    """
    tokens = sorted(lossy_tokens)
    counts = np.array([lossy_tokens[token] for token in tokens], dtype=np.float64)
    return float(model.nats(tokens) @ counts)
