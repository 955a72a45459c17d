"""Dropout variants: masks, scales, and no effect outside training."""

from __future__ import annotations

import pytest
import torch
from model_cases import CELLS, DROPOUTS, make_model
from torch import Tensor

from korlm.modules.dropout import dropout_mask, embedding_dropout, sequence_dropout, weight_dropout

T, B, F = 7, 5, 40
VARIATIONAL = pytest.mark.parametrize("variational", [False, True], ids=["plain", "variational"])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def is_constant(mask: Tensor, dim: int) -> bool:
    return bool((mask == mask.narrow(dim, 0, 1)).all())


def test_mask_holds_zero_and_the_scale() -> None:
    mask = dropout_mask(torch.ones(1, dtype=torch.float64), 0.2, 3, 1, 500)
    assert mask.shape == (3, 1, 500)
    assert mask.dtype == torch.float64
    torch.testing.assert_close(mask.unique(), torch.tensor([0.0, 1.25], dtype=torch.float64))
    assert (mask == 0).double().mean() == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_draws_of_a_mask_are_independent(dtype: torch.dtype) -> None:
    """Four draws share a random word: check each of them and each pair."""
    mask = dropout_mask(torch.ones(1, dtype=dtype), 0.3, 100_000, 4) == 0
    assert mask.double().mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.006)
    both = mask.double().t() @ mask.double() / len(mask)
    expected = torch.full((4, 4), 0.09, dtype=torch.float64).fill_diagonal_(0.3)
    torch.testing.assert_close(both, expected, atol=0.006, rtol=0)


@pytest.mark.parametrize("p", [1e-6, 0.001, 0.999, 0.999995, 1 - 1e-12])
def test_extreme_probabilities(p: float) -> None:
    """A probability that would round to 1 drops all but one value in 65,536."""
    torch.manual_seed(5)
    mask = dropout_mask(torch.ones(1), p, 1_000_001)
    assert (mask == 0).double().mean() == pytest.approx(p, abs=2e-4)
    assert mask.max() == pytest.approx(1 / (1 - min(p, 1 - 2**-16)))


@pytest.mark.parametrize("time_dim", [0, 1])
@VARIATIONAL
def test_sequence_dropout(variational: bool, time_dim: int) -> None:
    """Values are kept and scaled or 0; each call draws a mask, constant over time or not."""
    x = torch.randn(T, B, F, requires_grad=True)
    kept = sequence_dropout(x, 0.25, True, variational, time_dim)
    mask = (kept != 0) / 0.75
    torch.testing.assert_close(kept, x * mask)
    torch.testing.assert_close(torch.autograd.grad(kept.sum(), x)[0], mask)
    expected = [variational and dim == time_dim for dim in range(3)]
    assert [is_constant(mask, dim) for dim in range(3)] == expected
    many = torch.stack(
        [sequence_dropout(x.detach(), 0.25, True, variational, time_dim) for _ in range(200)]
    )
    torch.testing.assert_close((many / x).mean(0), torch.ones(T, B, F), atol=0.25, rtol=0)


@pytest.mark.parametrize("training, p", [(False, 0.5), (True, 0.0)])
def test_no_dropout_is_the_identity(training: bool, p: float) -> None:
    x, weight = torch.randn(T, B, F), torch.randn(9, F)
    for variational in (False, True):
        assert sequence_dropout(x, p, training, variational) is x
    assert embedding_dropout(x, torch.zeros(T, B, dtype=torch.int64), 3, p, training) is x
    assert weight_dropout(weight, p, training) is weight


def test_embedding_dropout_drops_a_token_everywhere() -> None:
    ids = torch.arange(4000).repeat(2).view(80, 100)
    x = torch.randn(80, 100, 3)
    kept = embedding_dropout(x, ids, 4000, 0.3, True)
    is_dropped = (kept == 0).all(-1)
    assert is_dropped.double().mean() == pytest.approx(0.3, abs=0.03)
    assert (is_dropped[:40] == is_dropped[40:]).all()
    torch.testing.assert_close(kept[~is_dropped], x[~is_dropped] / 0.7)


def test_weight_dropout_drops_entries_and_keeps_the_expectation() -> None:
    weight = torch.randn(12, 8)
    kept = torch.stack([weight_dropout(weight, 0.4, True) for _ in range(4000)])
    share = (kept == 0).double().mean()
    assert share == pytest.approx(0.4, abs=0.01)
    torch.testing.assert_close(kept.mean(0), weight, atol=0.15, rtol=0)
    assert not is_constant(kept[0] == 0, 0)
    assert not is_constant(kept[0] == 0, 1)


@VARIATIONAL
@pytest.mark.parametrize("setting", DROPOUTS)
@pytest.mark.parametrize("cell", CELLS)
def test_each_setting_acts_in_training_only(cell: str, setting: str, variational: bool) -> None:
    """A setting that no layer uses would change nothing in training."""
    changes = {setting: 0.5, "variational_dropout": variational}
    model, plain = make_model(cell, "tied", **changes), make_model(cell, "tied")
    inputs = torch.randint(1, model.vocab_size, (3, 6))
    targets = torch.randint(1, model.vocab_size, (3, 6))
    expected = plain.token_nll(inputs, targets)[0]
    torch.testing.assert_close(model.token_nll(inputs, targets)[0], expected)
    model.train()
    first, second = model.token_nll(inputs, targets)[0], model.token_nll(inputs, targets)[0]
    assert not torch.allclose(first, expected)
    assert not torch.allclose(first, second)


def test_variational_settings_reach_the_model() -> None:
    """Without recurrent weights, equal inputs have equal outputs iff masks are equal."""
    for variational in (True, False):
        model = make_model(
            "tanh", "tied", output_dropout=0.5, variational_dropout=variational
        ).train()
        for name, parameter in model.named_parameters():
            if "weight_hh" in name:
                torch.nn.init.zeros_(parameter)
        inputs = torch.full((2, 8), 4)
        nats = model.token_nll(inputs, inputs, None)[0].detach()
        assert torch.allclose(nats, nats[:, :1].expand_as(nats), atol=1e-6) is variational
        assert not torch.allclose(nats[0], nats[1])
