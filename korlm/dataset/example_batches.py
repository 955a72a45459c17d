"""Batches of examples: padded sequences of token ids, with the targets of a task.

In training, ``batches.batch_size`` is the number of examples of a step. Its memory is bounded by
``batches.max_tokens``: the trainer computes the gradients of ``Batch.parts`` one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.dataset.batches import Batch, bucket_by_length, rows_within
from korlm.dataset.storage.id_stream import Ids, Int64
from korlm.dataset.vocab import PAD_ID

# Indices of examples, int64 (B,) -> their targets (B, ...), and the number of targets.
TargetsOf = Callable[[Tensor], tuple[Tensor, int]]

PREDICTION_BATCH = 64  # maximum number of sequences
PREDICTION_TOKENS = 16_384  # maximum number of tokens, padding included


class ExampleBatches:
    """Padded examples of similar length.

    Every epoch has ``len()`` batches: the trainer computes the number of steps from it.

    Args:
        sequences: the N examples, each an array of token ids.
        targets: see ``TargetsOf``.
        batch_size: number of examples of a batch.
        shuffle_seed: see ``bucket_by_length``.
        second_lengths: see ``bucket_by_length``.

    >>> sequences = [np.array([4, 5]), np.array([6, 7, 8])]
    >>> labels = torch.tensor([0, 1])
    >>> batches = ExampleBatches(sequences, lambda indices: (labels[indices], len(indices)), 2)
    >>> for batch in batches.epoch(0):
    ...     print(batch.inputs.tolist(), batch.targets.tolist(), batch.lengths, batch.rows)
    [[6, 7, 8], [4, 5, 0]] [1, 0] tensor([3, 2]) tensor([1, 0])
    """

    carries_state = False

    def __init__(
        self,
        sequences: Sequence[Ids],
        targets: TargetsOf,
        batch_size: int,
        shuffle_seed: int | None = None,
        second_lengths: Int64 | None = None,
    ) -> None:
        self._sequences, self._targets = sequences, targets
        self._lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        self._seed, self._second_lengths = shuffle_seed, second_lengths
        self.batch_size = batch_size
        # In parts, because the targets of all examples at once would be mostly padding.
        parts = torch.split(torch.arange(len(sequences)), batch_size)
        self.num_targets = sum(targets(indices)[1] for indices in parts)

    def __len__(self) -> int:
        return -(-len(self._sequences) // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from the ``first`` on; rows are in decreasing length."""
        order = bucket_by_length(
            self._lengths, self.batch_size, self._seed, epoch, self._second_lengths
        )
        for indices in order[first:]:
            inputs, lengths = pad([self._sequences[i] for i in indices])
            rows = torch.from_numpy(np.asarray(indices))
            targets, num_targets = self._targets(rows)
            yield Batch(inputs, targets, lengths, num_targets, rows)


def padded_batches(sequences: Sequence[Ids]) -> Iterator[tuple[Int64, Tensor, Tensor]]:
    """Yield sequences in padded batches of similar length, for prediction.

    Yields:
        The indices of B sequences, (B,), and what ``pad`` returns for them.
    """
    lengths: Int64 = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    for batch in bucket_by_length(lengths, PREDICTION_BATCH, None, 0):
        remaining = batch
        while len(remaining):
            longest = int(lengths[remaining[0]])
            size = rows_within(PREDICTION_TOKENS, longest)
            indices, remaining = remaining[:size], remaining[size:]
            yield indices, *pad([sequences[i] for i in indices])


def pad(sequences: Sequence[npt.NDArray[Any]], value: int = PAD_ID) -> tuple[Tensor, Tensor]:
    """Return one or more sequences padded with a value, int64 (B, T), and lengths, int64 (B,).

    The values must be integers. Sequences may have further axes, (T, ...), which the result then
    has as well.

    >>> pad([np.array([5]), np.array([6, 7])], value=-1)
    (tensor([[ 5, -1],
            [ 6,  7]]), tensor([1, 2]))
    """
    lengths: Int64 = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    shape = len(sequences), int(lengths.max()), *sequences[0].shape[1:]
    padded = np.full(shape, value, dtype=np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(sequences)
    return torch.from_numpy(padded), torch.from_numpy(lengths)
