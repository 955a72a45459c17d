"""Optimizers and schedules, against PyTorch's and by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from korlm.config import (
    AdagradConfig,
    AdamConfig,
    DecayConfig,
    InitialState,
    LSTMConfig,
    OptimizerConfig,
    PlateauConfig,
    ScheduleConfig,
    SGDConfig,
)
from korlm.models.registry import build_model
from korlm.training.optimizers import Plateau, build_optimizer, clip_gradients, learning_rate_factor
from korlm.utils.errors import ConfigError

OPTIMIZERS: dict[str, OptimizerConfig] = {
    "adam": AdamConfig(name="adam", lr=0.05),
    "adamw": AdamConfig(name="adamw", lr=0.05, weight_decay=0.01),
    "sgd": SGDConfig(name="sgd", lr=0.05),
    "momentum": SGDConfig(name="sgd", lr=0.02, momentum=0.9),
    "nesterov": SGDConfig(name="sgd", lr=0.02, momentum=0.9, nesterov=True),
    "adagrad": AdagradConfig(name="adagrad", lr=0.5),
}


class Bowl(nn.Module):
    """A quadratic function of a matrix and a vector with its minimum at (3, -2) and 1.5."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(1, 2))
        self.vector = nn.Parameter(torch.zeros(1))

    def forward(self) -> torch.Tensor:
        by_matrix = (self.matrix - torch.tensor([[3.0, -2.0]])).pow(2).sum()
        return by_matrix + (self.vector - 1.5).pow(2).sum()


def by_pytorch(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Return PyTorch's optimizer with the same settings, without the fused implementation."""
    config = OPTIMIZERS[name]
    if isinstance(config, AdamConfig):
        kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
        return kind(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps)
    if isinstance(config, SGDConfig):
        nesterov, momentum = config.nesterov, config.momentum
        return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=nesterov)
    assert isinstance(config, AdagradConfig)
    return torch.optim.Adagrad(groups, lr=config.lr, eps=config.eps)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_equals_pytorch(name: str) -> None:
    one, other = Bowl(), Bowl()
    decay = OPTIMIZERS[name].weight_decay
    reference = by_pytorch(
        name,
        [
            {"params": [other.matrix], "weight_decay": decay},
            {"params": [other.vector], "weight_decay": 0.0},
        ],
    )
    optimizer = build_optimizer(one, OPTIMIZERS[name])
    assert optimizer.defaults["lr"] == OPTIMIZERS[name].lr  # the peak for the schedule
    for _ in range(5):
        for bowl, stepped in ((one, optimizer), (other, reference)):
            stepped.zero_grad()
            bowl().backward()
            stepped.step()
    torch.testing.assert_close(one.matrix, other.matrix)
    torch.testing.assert_close(one.vector, other.vector)


def test_settings_of_adam_reach_the_optimizer() -> None:
    config = AdamConfig(name="adamw", lr=0.1, beta1=0.5, beta2=0.7, eps=1e-3)
    group = build_optimizer(Bowl(), config).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.5, 0.7), 1e-3)


def test_wrong_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer\.name=adamax: must be adam or adamw;"):
        AdamConfig(name="adamax", lr=0.1)


def test_every_parameter_is_trained_once() -> None:
    """A tied matrix is one parameter under two names."""
    options = {"tie_weights": True, "layer_norm": True, "initial_state": InitialState.learned}
    model = build_model(LSTMConfig(name="lstm", embedding_dim=4, hidden_dim=5, **options), 9)
    groups = build_optimizer(model, OPTIMIZERS["adamw"]).param_groups
    trained = [id(p) for group in groups for p in group["params"]]
    assert len(set(trained)) == len(trained)
    assert set(trained) == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_weight_decay_of_biases_and_normalization(name: str) -> None:
    """With zero gradients only decay changes weights, towards 0."""
    config = OPTIMIZERS[name]
    config = type(config)(**{**vars(config), "weight_decay": 0.1})
    torch.manual_seed(0)
    model = build_model(
        LSTMConfig(name="lstm", embedding_dim=4, hidden_dim=5, layer_norm=True), vocab_size=9
    )
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = build_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for n, parameter in model.named_parameters():
        is_matrix = n.startswith("embedding") or n.endswith(("weight_ih", "weight_hh"))
        if is_matrix:
            moved = parameter.detach() - before[n]
            assert (moved * before[n] < 0).all(), n
        else:
            torch.testing.assert_close(parameter.detach(), before[n], rtol=0, atol=0)


# --- schedules -----------------------------------------------------------------------------------


def rates(config: ScheduleConfig, total: int) -> list[float]:
    return [learning_rate_factor(config, step, total) for step in range(total)]


@pytest.mark.parametrize("total", [20, 101, 333])
@pytest.mark.parametrize("warmup_ratio", [0.25, 0.3])
@pytest.mark.parametrize("start_factor, end_factor", [(0.04, 4e-6), (0.1, 0.001)])
def test_one_cycle_equals_pytorch(
    total: int, warmup_ratio: float, start_factor: float, end_factor: float
) -> None:
    """PyTorch puts the peak at step pct_start * total - 1, korlm at warmup_ratio * total."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1.0,
        total_steps=total,
        pct_start=warmup_ratio + 1 / total,
        div_factor=1 / start_factor,
        final_div_factor=start_factor / end_factor,
        cycle_momentum=False,
    )
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < total:
            scheduler.step()
    config = DecayConfig(
        name="one_cycle",
        warmup_ratio=warmup_ratio,
        start_factor=start_factor,
        end_factor=end_factor,
    )
    assert rates(config, total) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_cosine_with_warm_up() -> None:
    config = DecayConfig(name="cosine", warmup_ratio=0.4, start_factor=0.2, end_factor=0.1)
    falling = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 5)) / 2 for k in range(6)]
    assert rates(config, 10) == pytest.approx([0.2, 0.4, 0.6, 0.8, *falling])


def test_cosine_without_warm_up_equals_pytorch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=29, eta_min=0.05)
    expected = []
    for _ in range(30):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(DecayConfig(name="cosine", end_factor=0.05), 30) == pytest.approx(expected)


@pytest.mark.parametrize(
    "config, expected",
    [
        (ScheduleConfig(name="constant"), [1.0] * 4),
        (
            ScheduleConfig(name="constant", warmup_ratio=0.75, start_factor=0.0),
            [0.0, 1 / 3, 2 / 3, 1.0],
        ),
        (PlateauConfig(name="plateau", warmup_ratio=0.5, start_factor=0.5), [0.5, 0.75, 1.0, 1.0]),
    ],
)
def test_constant_rates(config: ScheduleConfig, expected: list[float]) -> None:
    assert rates(config, 4) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_very_short_runs(name: str, total: int) -> None:
    config = DecayConfig(name=name, warmup_ratio=0.25, start_factor=0.04)
    assert all(0 <= rate <= 1 for rate in rates(config, total))
    assert rates(DecayConfig(name=name), total)[0] == 1.0


def test_past_the_planned_end() -> None:
    """A run that is resumed with fewer steps may be past its end."""
    config = DecayConfig(name="cosine", end_factor=0.3)
    assert learning_rate_factor(config, 25, 10) == pytest.approx(0.3)


IMPROVED = [True, False, False, False, True, False, False, False, False, False, False]
FACTORS = {
    # One validation without improvement is tolerated; the count restarts after a reduction and
    # after an improvement; the factor does not fall below the end.
    1: [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2],
    0: [1.0, 0.5, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2],
}


@pytest.mark.parametrize("patience", FACTORS)
def test_plateau(patience: int) -> None:
    config = PlateauConfig(name="plateau", factor=0.5, patience=patience, end_factor=0.2)
    plateau, factors = Plateau(), []
    for improved in IMPROVED:
        plateau.update(config, improved)
        factors.append(plateau.factor)
    assert factors == FACTORS[patience]


@pytest.mark.parametrize("config", [ScheduleConfig(name="constant"), DecayConfig(name="cosine")])
def test_other_schedules_ignore_plateaus(config: ScheduleConfig) -> None:
    plateau = Plateau()
    for _ in range(5):
        plateau.update(config, improved=False)
    assert plateau == Plateau()


@pytest.mark.parametrize("limit", [0.5, 3.0, 10.0, None])
def test_clipping_equals_pytorch(limit: float | None) -> None:
    results = []
    for clip in (clip_gradients, torch.nn.utils.clip_grad_norm_):
        weights = [nn.Parameter(torch.zeros(size)) for size in (3, 4, 5)]
        weights[0].grad = torch.tensor([1.0, -2.0, 0.0])
        weights[2].grad = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0])
        norm = clip(weights, math.inf if limit is None and clip is not clip_gradients else limit)
        assert norm.item() == pytest.approx(3.0)
        assert weights[1].grad is None
        results.append((weights[0].grad, weights[2].grad))
    torch.testing.assert_close(*results)
