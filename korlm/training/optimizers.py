"""Optimizers and learning-rate schedules.

A schedule is a function of the step, without memory, so that a resumed run needs none; only the
plateau remembers, and ``Plateau`` says what.
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
    """The optimizer of the settings; weight decay is for matrices of weights alone.

    Args:
        model: on its device.
        config: which, and its rates.
        bf16: whether its own matrix products, if it has any, run in bf16.
    """
    hidden: list[tuple[Tensor, int]] = []
    if isinstance(config, MuonConfig) and isinstance(model, LanguageModel):
        hidden = model.muon_weights()
    taken = {id(weight) for weight, _ in hidden}
    named = [(name, p) for name, p in model.named_parameters() if id(p) not in taken]
    is_matrix = {name: p.ndim > 1 and not name.endswith("initial") for name, p in named}
    matrices = [p for name, p in named if is_matrix[name]]
    vectors = [p for name, p in named if not is_matrix[name]]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    # The fused form does the whole update in one pass over memory.
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    if isinstance(config, MuonConfig):
        by_gates = [
            {"params": [weight], "gates": gates, "weight_decay": config.weight_decay}
            for weight, gates in hidden
        ]
        rates = (config.lr, config.matrix_lr, config.momentum)
        betas = (config.beta1, config.beta2)
        dtype = torch.bfloat16 if bf16 else torch.float32
        return Muon(by_gates, groups, *rates, dtype, betas=betas, eps=config.eps, fused=fused)
    if isinstance(config, AdamConfig):
        kinds: dict[str, type[torch.optim.Adam]] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
        }
        betas = (config.beta1, config.beta2)
        return kinds[config.name](groups, lr=config.lr, betas=betas, eps=config.eps, fused=fused)
    if isinstance(config, SGDConfig):
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused
        )
    assert isinstance(config, AdagradConfig)
    return torch.optim.Adagrad(groups, lr=config.lr, eps=config.eps)


def clip_gradients(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    """Scales all gradients down to an L2 norm; gives the norm they had, a scalar on their device.

    Args:
        parameters: some may have no gradient.
        limit: largest norm; None: any.
    """
    learned = list(parameters)
    norm = torch.nn.utils.get_total_norm([p.grad for p in learned if p.grad is not None])
    # Few steps need it. A GPU would have to be waited for to know, and multiplies by 1 instead.
    if limit is not None and (norm.device.type != "cpu" or norm > limit):
        torch.nn.utils.clip_grads_with_norm_(learned, limit, norm)
    return norm


def learning_rate_factor(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """Rate of a step over its peak.

    Args:
        config: the schedule.
        step: from 0 to total_steps - 1.
        total_steps: planned for the whole run.
    """
    warmup = config.warmup_ratio * total_steps
    if step < warmup:
        done = step / warmup
        if config.name == "one_cycle":  # Smith 2018, with the cosine that fastai made of it
            done = (1 - math.cos(math.pi * done)) / 2
        return config.start_factor + (1 - config.start_factor) * done
    if isinstance(config, DecayConfig):
        done = (step - warmup) / max(total_steps - 1 - warmup, 1)
        falling = (1 + math.cos(math.pi * min(done, 1.0))) / 2
        return config.end_factor + (1 - config.end_factor) * falling
    return 1.0


@dataclass
class Plateau:
    """What the plateau schedule remembers: how far the rate has fallen, and for how long not."""

    factor: float = 1.0
    validations_without_improvement: int = 0

    def update(self, config: ScheduleConfig, improved: bool) -> None:
        """Takes notice of a validation."""
        if not isinstance(config, PlateauConfig):
            return
        self.validations_without_improvement = (
            0 if improved else self.validations_without_improvement + 1
        )
        if self.validations_without_improvement > config.patience:
            self.factor = max(self.factor * config.factor, config.end_factor)
            self.validations_without_improvement = 0
