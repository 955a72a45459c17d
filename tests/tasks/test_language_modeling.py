"""Language modeling: the summed loss of a split, with losses computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from fixed_model import FixedModel, V, ids_of
from torch import Tensor

from korlm.dataset.batches import BucketedSentenceBatches, StreamBatches
from korlm.dataset.vocab import BOS_ID, EOS_ID, UNK_ID
from korlm.tasks.language_modeling import sum_losses

CPU = torch.device("cpu")


@pytest.fixture
def probs() -> Tensor:
    """Return different rows of sum 1: p[i, j] is proportional to (i + 2 j + 1) % 7 + 1."""
    rows = torch.arange(V)[:, None]
    table = ((rows + 2 * torch.arange(V) + 1) % 7 + 1).float()
    return table / table.sum(1, keepdim=True)


def test_sums_over_a_stream(probs: Tensor) -> None:
    stream = ids_of(4, 5, UNK_ID, 6, EOS_ID, 7, UNK_ID, 5, 4, EOS_ID, 6)
    previous = [EOS_ID, *stream[:-1].tolist()]
    nll = [-math.log(probs[i, j]) for i, j in zip(previous, stream.tolist(), strict=True)]
    for batch_size in (1, 2, 3, 11):
        for length in (1, 2, 4, 50):
            sums = sum_losses(FixedModel(probs), StreamBatches(stream, batch_size, length), CPU)
            assert sums.nats == pytest.approx(sum(nll), rel=1e-6)
            assert sums.unk_nats == pytest.approx(nll[2] + nll[6], rel=1e-6)
            assert (sums.num_tokens, sums.num_unk) == (11, 2)
            assert sums.seconds > 0


def test_sums_over_sentences(probs: Tensor) -> None:
    ids = ids_of(4, 5, 6, EOS_ID, UNK_ID, EOS_ID)
    sums = sum_losses(FixedModel(probs), BucketedSentenceBatches(ids, 4, 100), CPU)
    first = [(BOS_ID, 4), (4, 5), (5, 6), (6, EOS_ID)]
    second = [(BOS_ID, UNK_ID), (UNK_ID, EOS_ID)]
    assert sums.nats == pytest.approx(-sum(math.log(probs[i, j]) for i, j in first + second))
    assert sums.unk_nats == pytest.approx(-math.log(probs[BOS_ID, UNK_ID]))
    assert (sums.num_tokens, sums.num_unk) == (6, 1)


def test_a_stream_carries_the_state_and_sentences_do_not() -> None:
    model = FixedModel()
    sum_losses(model, StreamBatches(ids_of(*[4] * 10), 2, 2), CPU)
    assert model.seen == [[0, 0], [2, 2], [4, 4]]
    model.seen.clear()
    sum_losses(model, BucketedSentenceBatches(ids_of(*[4, EOS_ID] * 5), 2, 100), CPU)
    assert model.seen == [[0, 0], [0, 0], [0]]


def test_evaluation_mode_without_gradients_and_tf32() -> None:
    model = FixedModel().train()
    modes = []

    def note(number: int, nll: Tensor) -> Tensor:
        tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        modes.append((model.training, nll.requires_grad, *tf32))
        return nll

    model.on_call = note
    sum_losses(model, StreamBatches(ids_of(4, 5, 6), 1, 2), CPU)
    assert modes == [(False, False, False, False)] * 2
    assert not model.training


def test_on_batch_may_stop_it() -> None:
    model = FixedModel()

    def on_batch() -> None:
        if len(model.seen) == 2:
            raise KeyError

    with pytest.raises(KeyError):
        sum_losses(model, StreamBatches(ids_of(*[4] * 10), 1, 2), CPU, on_batch)
    assert len(model.seen) == 2


def test_sums_are_in_double_precision() -> None:
    """A thousand small losses, each below the fp32 rounding of a large one, are not lost."""
    model = FixedModel()
    losses = [2.0**24, *[1.0] * 1000]
    model.on_call = lambda number, nll: torch.full_like(nll, losses[number - 1])
    sums = sum_losses(model, StreamBatches(ids_of(*[4] * 1001), 1, 1), CPU)
    assert sums.nats == 2.0**24 + 1000
