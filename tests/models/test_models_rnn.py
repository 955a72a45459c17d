"""Activation regularization and checkpoints of recurrent language models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import OPTIONS, make_config, scatter
from torch import Tensor

from korlm.models.registry import build_model
from korlm.models.rnn import RecurrentLM, TemporalDifference, WeightedSquaredNorm

PENALTIES = [(2.0, 0.0), (0.0, 3.0), (2.0, 3.0), (0.0, 0.0)]


def make(**options: Any) -> RecurrentLM:
    model = build_model(make_config("lstm", **OPTIONS["tied"], **options), 11)
    assert isinstance(model, RecurrentLM)
    scatter(model)
    return model


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs, targets and lengths of two rows of 5 and 3 tokens."""
    inputs = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
    targets = torch.tensor([[2, 3, 4, 5, 6], [7, 8, 9, 0, 0]])
    return inputs, targets, torch.tensor([5, 3])


@pytest.mark.parametrize("activation, change", PENALTIES)
def test_activation_regularization_by_hand(activation: float, change: float) -> None:
    model = make(
        activation_regularization=activation, temporal_activation_regularization=change
    ).train()
    inputs, targets, lengths = batch()
    total, loss, _ = model.training_loss(inputs, targets, None, lengths)
    expected = model.training_loss(inputs, targets, None, lengths).nll
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    for row, length in enumerate(lengths.tolist()):
        hidden = model.encode(inputs[row : row + 1, :length]).raw_output[0]
        for t in range(length):
            expected = expected + activation * (hidden[t] ** 2).mean()
            if t:
                expected = expected + change * ((hidden[t] - hidden[t - 1]) ** 2).mean()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    weight = model.encoder.layers[1].weight_hh
    gradients = torch.autograd.grad(total, weight, retain_graph=True)[0]
    plain = torch.autograd.grad(loss, weight)[0]
    assert torch.allclose(gradients, plain) == (activation == change == 0)


def test_ar_is_after_dropout_and_tar_before() -> None:
    sums = []
    for key in ("activation_regularization", "temporal_activation_regularization"):
        model = make(output_dropout=0.9, **{key: 1.0}).train()
        inputs, targets, _ = batch()
        torch.manual_seed(1)
        total, loss, _ = model.training_loss(inputs, targets)
        torch.manual_seed(2)
        other, other_loss, _ = model.training_loss(inputs, targets)
        sums.append(((total - loss).item(), (other - other_loss).item()))
    assert sums[0][0] != pytest.approx(sums[0][1])
    assert sums[1][0] == pytest.approx(sums[1][1])


def test_gradients_of_activation_regularization() -> None:
    torch.manual_seed(1)
    plain = torch.randn(2, 4, 3, requires_grad=True)
    weights = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    actual = torch.autograd.grad(
        WeightedSquaredNorm.apply(TemporalDifference.apply(plain), weights[:, 1:]), plain
    )
    changes = ((plain[:, 1:] - plain[:, :-1]) ** 2).mean(-1)
    expected = torch.autograd.grad((changes * weights[:, 1:]).sum(), plain)
    torch.testing.assert_close(actual, expected)
    low = plain.detach().bfloat16().requires_grad_()
    actual = torch.autograd.grad(WeightedSquaredNorm.apply(low, weights), low)
    expected = torch.autograd.grad(((plain**2).mean(-1) * weights).sum(), plain)
    torch.testing.assert_close(actual[0].float(), expected[0], atol=0.01, rtol=0.01)


def test_checkpoints_hold_the_embedding_once() -> None:
    model, other = make(), make()
    state = model.state_dict()
    assert not [name for name in state if name.startswith("encoder.embedding")]
    assert state.keys() == {name for name, _ in model.named_parameters(remove_duplicate=False)} - {
        "encoder.embedding.weight"
    }
    with torch.no_grad():
        other.embedding.weight.zero_()
    other.load_state_dict(state)
    assert other.encoder.embedding is other.embedding
    assert torch.equal(other.embedding.weight, model.embedding.weight)
