"""What recurrent language models add to the contract: penalties in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_cases import OPTIONS, make_config, scatter
from torch import Tensor

from korlm.models.registry import build_model
from korlm.models.rnn import RecurrentLM, _TemporalDifference, _WeightedSquaredNorm

PENALTIES = [(2.0, 0.0), (0.0, 3.0), (2.0, 3.0), (0.0, 0.0)]


def make(**options: Any) -> RecurrentLM:
    model = build_model(make_config("lstm", **OPTIONS["tied"], **options), 11)
    assert isinstance(model, RecurrentLM)
    scatter(model)
    return model


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Two rows of 5 and 3 tokens."""
    inputs = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
    targets = torch.tensor([[2, 3, 4, 5, 6], [7, 8, 9, 0, 0]])
    return inputs, targets, torch.tensor([5, 3])


@pytest.mark.parametrize("activation, change", PENALTIES)
def test_penalties_are_sums_over_tokens_of_means_over_units(
    activation: float, change: float
) -> None:
    model = make(
        activation_regularization=activation, temporal_activation_regularization=change
    ).train()
    inputs, targets, lengths = batch()
    total, loss, _ = model.training_loss(inputs, targets, None, lengths)
    expected = model.training_loss(inputs, targets, None, lengths).nll
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    for row, length in enumerate(lengths.tolist()):
        hidden, _ = model.encoder(
            model.embedding(inputs[row, :length])[:, None], model.initial_state(1), None
        )
        for t in range(length):
            expected = expected + activation * (hidden[t, 0] ** 2).mean()
            if t:
                expected = expected + change * ((hidden[t, 0] - hidden[t - 1, 0]) ** 2).mean()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    weight = model.encoder.layers[1].weight_hh
    gradients = torch.autograd.grad(total, weight, retain_graph=True)[0]
    plain = torch.autograd.grad(loss, weight)[0]
    assert torch.allclose(gradients, plain) == (activation == change == 0)


def test_activations_are_penalised_after_dropout_and_changes_before() -> None:
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


def test_gradients_of_penalties() -> None:
    torch.manual_seed(1)
    plain = torch.randn(2, 4, 3, requires_grad=True)
    weights = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])
    found = torch.autograd.grad(
        _WeightedSquaredNorm.apply(_TemporalDifference.apply(plain), weights[:, 1:]), plain
    )
    changes = ((plain[:, 1:] - plain[:, :-1]) ** 2).mean(-1)
    expected = torch.autograd.grad((changes * weights[:, 1:]).sum(), plain)
    torch.testing.assert_close(found, expected)
    low = plain.detach().bfloat16().requires_grad_()
    found = torch.autograd.grad(_WeightedSquaredNorm.apply(low, weights), low)
    expected = torch.autograd.grad(((plain**2).mean(-1) * weights).sum(), plain)
    torch.testing.assert_close(found[0].float(), expected[0], atol=0.01, rtol=0.01)
