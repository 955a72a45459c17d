"""Map the tokens of shards to ids.

A shard becomes one array of ids, ``ids/<split>-<number>.npy``: exactly one id for each token of its
lines (column ``morphs``), in order, and <eos> after each non-blank line. Python loops run over
distinct tokens only; everything else is array operations.
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
from korlm.dataset.storage.shards import non_blank_mask, read_columns, read_counts
from korlm.dataset.storage.token_counts import to_list
from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab, id_dtype
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import atomic_write


@dataclass(frozen=True)
class EncodedShard:
    """Totals of a shard, and the checksum of its ids.

    Lossy tokens are those that cannot be recovered from their ids: <unk>, and tokens that
    ``vocab.lowercase`` or ``vocab.normalize_numbers`` maps to another token.
    """

    num_unk: int
    spelling_nats: float  # total cost of spelling the lossy tokens
    crc32: str  # of the .npy file


def encode_shard(
    shard: Path, target: Path, vocab: Vocab, spelling: CharNgramModel, reverse: bool = False
) -> EncodedShard:
    """Write the ids of a shard as a .npy file, uint16 if they fit, else uint32.

    If ``reverse``, the tokens of each line are reversed; <eos> stays at its end.
    """
    size = read_counts(shard).num_tokens  # <eos> included
    dtype = np.dtype(id_dtype(len(vocab))).newbyteorder("<")
    lossy_tokens: Counter[str] = Counter()
    num_written = 0
    with atomic_write(target, shared=True) as temporary:
        # Not np.memmap: its pages would count as memory of this process.
        with open(temporary, "wb") as stream:
            header = {"descr": dtype.str, "fortran_order": False, "shape": (size,)}
            np.lib.format.write_array_header_1_0(stream, header)
            for ids in _encode_lines(shard, vocab, lossy_tokens, reverse):
                stream.write(ids.astype(dtype).tobytes())
                num_written += len(ids)
        assert num_written == size, f"{shard}: {num_written} ids written, {size} expected"
        crc32 = checksums.crc32(temporary)
    tokens = sorted(lossy_tokens)
    counts = np.array([lossy_tokens[token] for token in tokens], dtype=np.int64)
    num_unk = int(counts[vocab.encode(tokens) == UNK_ID].sum())
    spelling_nats = float(spelling.nats(tokens) @ counts.astype(np.float64))
    return EncodedShard(num_unk, spelling_nats, crc32)


def _encode_lines(
    shard: Path, vocab: Vocab, lossy_tokens: Counter[str], reverse: bool
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the ids of each batch of lines, and add the lossy tokens to ``lossy_tokens``."""
    for batch in read_columns(shard, ["morphs", "status"]):
        tokens, indices, token_ids, lossless = encode_morphs(batch.column("morphs"), vocab)
        counts = np.bincount(indices, minlength=len(tokens))
        for index in np.flatnonzero(~lossless):
            lossy_tokens[tokens[index]] += int(counts[index])
        lengths_with_eos = line_lengths(batch.column("morphs"), batch.column("status"))
        ids = token_ids[indices]
        if reverse:
            ids = reverse_lines(ids, lengths_with_eos - 1)
        yield insert_eos(ids, lengths_with_eos, EOS_ID)


def encode_morphs(
    morphs: pa.ListArray, vocab: Vocab
) -> tuple[list[str], npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Look up each distinct token of some lines once.

    Returns:
        (tokens, indices, token_ids, lossless): the K distinct tokens; for each of the N tokens of
        the lines its index in ``tokens``, (N,); the ids of ``tokens``, (K,); and True for those
        that can be recovered from their ids, (K,).
    """
    encoded = morphs.flatten().dictionary_encode()
    tokens = to_list(encoded.dictionary)
    token_ids = vocab.encode(tokens)
    indices = encoded.indices.to_numpy(zero_copy_only=False)
    return tokens, indices, token_ids, vocab.is_lossless(tokens, token_ids)


def line_lengths(morphs: pa.ListArray, status: pa.StringArray) -> npt.NDArray[np.int64]:
    """Return the number of tokens, <eos> included, of each non-blank line."""
    lengths = pc.list_value_length(morphs).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    lengths_with_eos: npt.NDArray[np.int64] = lengths[non_blank_mask(status)]
    return lengths_with_eos


def insert_eos(
    values: npt.NDArray[Any], lengths_with_eos: npt.NDArray[np.int64], eos_value: Any
) -> Any:
    """Insert a value for <eos> after the values of each line.

    Args:
        values: one value per token of all lines, (N,).
        lengths_with_eos: number of tokens of each non-blank line, <eos> included, (lines,).
        eos_value: the value for <eos>.

    Returns:
        The N + lines values, in the dtype of ``values``.
    """
    result = np.full(len(values) + len(lengths_with_eos), eos_value, dtype=values.dtype)
    is_token = np.ones(len(result), dtype=bool)
    is_token[np.cumsum(lengths_with_eos) - 1] = False
    result[is_token] = values
    return result


def reverse_lines(values: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Reverse the order of the values, (N,), within each line of a length of ``lengths``, (lines,).

    >>> reverse_lines(np.array([1, 2, 3, 4, 5]), np.array([3, 2])).tolist()
    [3, 2, 1, 5, 4]
    """
    ends = np.cumsum(lengths)
    # Position i of a line from start to end (exclusive) takes the value at start + end - 1 - i.
    sources = np.repeat(2 * ends - lengths - 1, lengths) - np.arange(len(values))
    result: npt.NDArray[Any] = values[sources]
    return result
