"""Optimizers and learning-rate schedules.

A schedule is a function of the step, without state. The plateau schedule alone has a state,
``Plateau``, which is part of ``Progress``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from korlm.config import (
    AdagradConfig,
    AdamConfig,
    DecayConfig,
    MuonConfig,
    OptimizerConfig,
    PlateauConfig,
    ScheduleConfig,
    SGDConfig,
)
from korlm.models.base import LanguageModel
from korlm.training.muon import Muon


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, bf16: bool = False
) -> torch.optim.Optimizer:
    """Build the optimizer of the settings.

    Weight decay applies to weight matrices only, not to biases, normalization and initial states.

    Args:
        model: on its device.
        config: settings of the optimizer.
        bf16: whether matrix products of the optimizer itself (Muon) run in bf16.
    """
    hidden: list[tuple[Tensor, int]] = []
    if isinstance(config, MuonConfig) and isinstance(model, LanguageModel):
        hidden = model.muon_weights()
    hidden_ids = {id(weight) for weight, _ in hidden}
    decayed: list[nn.Parameter] = []
    not_decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if id(parameter) not in hidden_ids:
            is_matrix = parameter.ndim > 1 and not name.endswith("initial")
            (decayed if is_matrix else not_decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": not_decayed, "weight_decay": 0.0},
    ]
    # The fused implementation updates in one pass over memory.
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    if isinstance(config, MuonConfig):
        hidden_groups = [
            {"params": [weight], "gates": gates, "weight_decay": config.weight_decay}
            for weight, gates in hidden
        ]
        rates = (config.lr, config.matrix_lr, config.momentum)
        betas = (config.beta1, config.beta2)
        dtype = torch.bfloat16 if bf16 else torch.float32
        return Muon(hidden_groups, groups, *rates, dtype, betas=betas, eps=config.eps, fused=fused)
    if isinstance(config, AdamConfig):
        adam = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        betas = (config.beta1, config.beta2)
        return adam(groups, lr=config.lr, betas=betas, eps=config.eps, fused=fused)
    if isinstance(config, SGDConfig):
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused
        )
    assert isinstance(config, AdagradConfig)
    return torch.optim.Adagrad(groups, lr=config.lr, eps=config.eps)


def clip_gradients(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    """Clip all gradients to a total L2 norm, in place.

    Args:
        parameters: some may have no gradient.
        limit: maximum norm; None disables clipping.

    Returns:
        The norm before clipping, a scalar on the device of the gradients.
    """
    parameters = list(parameters)
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    # Few steps need clipping. On a GPU the comparison would force a synchronization, so it
    # multiplies by 1 instead.
    if limit is not None and (norm.device.type != "cpu" or norm > limit):
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def learning_rate_factor(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """Return the learning rate of a step divided by the peak learning rate.

    Args:
        config: settings of the schedule.
        step: from 0 to total_steps - 1.
        total_steps: of the whole run.
    """
    warmup = config.warmup_ratio * total_steps
    if step < warmup:
        done = step / warmup
        if config.name == "one_cycle":  # Smith 2018, with fastai's cosine
            done = (1 - math.cos(math.pi * done)) / 2
        return config.start_factor + (1 - config.start_factor) * done
    if isinstance(config, DecayConfig):
        done = (step - warmup) / max(total_steps - 1 - warmup, 1)
        cosine = (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return config.end_factor + (1 - config.end_factor) * cosine
    return 1.0


@dataclass
class Plateau:
    """State of the plateau schedule.

    Attributes:
        factor: learning rate / peak learning rate.
        validations_without_improvement: since the last improvement or reduction.
    """

    factor: float = 1.0
    validations_without_improvement: int = 0

    def update(self, config: ScheduleConfig, improved: bool) -> None:
        """Reduce the factor if the validations have not improved for ``patience`` validations."""
        if not isinstance(config, PlateauConfig):
            return
        self.validations_without_improvement = (
            0 if improved else self.validations_without_improvement + 1
        )
        if self.validations_without_improvement > config.patience:
            self.factor = max(self.factor * config.factor, config.end_factor)
            self.validations_without_improvement = 0
