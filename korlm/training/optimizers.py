"""Optimizers and learning-rate schedules.

An optimizer is a function ``build_NAME``, which its config class in
``korlm.config.groups.training`` names in ``@register(..., builds=...)``; a schedule is a config
class there and a branch of ``learning_rate_factor``, a function of the step.
The plateau schedule alone has a state, ``Plateau``, which is part of ``Progress``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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
    registry,
)
from korlm.modules.base import Trainable
from korlm.training.muon import Muon


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, bf16: bool = False
) -> torch.optim.Optimizer:
    """Return the optimizer of the settings, ``builds(model, config, bf16)``.

    Args:
        model: on its device.
        config: the settings of a registered optimizer.
        bf16: whether matrix products of the optimizer itself run in bf16.

    ``Trainer`` sets ``lr`` of each parameter group before each step, from ``defaults["lr"]``.
    """
    build = registry.builder("optimizer", config.name)
    optimizer: torch.optim.Optimizer = build(model, config, bf16)
    return optimizer


def parameter_groups(
    model: nn.Module, weight_decay: float, exclude: Iterable[Tensor] = ()
) -> list[dict[str, Any]]:
    """Return two groups of parameters: matrices, with weight decay, and vectors, without.

    Learned initial states count as vectors. Parameters in ``exclude`` are in neither group.
    """
    excluded = {id(parameter) for parameter in exclude}
    named = [(name, p) for name, p in model.named_parameters() if id(p) not in excluded]
    is_matrix = {name: p.ndim > 1 and not name.endswith("initial") for name, p in named}
    return [
        {"params": [p for name, p in named if is_matrix[name]], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not is_matrix[name]], "weight_decay": 0.0},
    ]


def split_by_depth(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Split the parameter groups of a new optimizer by the depth of the parameters' layers.

    Each group gets an entry ``depth``: 0 for the head, 1 for the layer below it, and so on down to
    the embedding. ``Trainer`` sets learning rates by it.

    The layers of an encoder and of its decoder are counted from the last layer of each, since the
    attention of the head reads both.
    """
    layers = {
        parameter: int(match[1])
        for name, parameter in model.named_parameters()
        if (match := re.search(r"(?:^|[._])layers\.(\d+)\.", name)) and parameter.requires_grad
    }
    num_layers = max(layers.values(), default=-1) + 1
    depths = {parameter: num_layers - layer for parameter, layer in layers.items()}
    for name, parameter in model.named_parameters():
        depths.setdefault(parameter, num_layers + 1 if "embedding" in name else 0)
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        for depth in sorted({depths[p] for p in group["params"]}):
            params = [p for p in group["params"] if depths[p] == depth]
            groups.append({**group, "params": params, "depth": depth})
    optimizer.param_groups = groups


def build_adam(model: nn.Module, config: AdamConfig, bf16: bool) -> torch.optim.Optimizer:
    """Return Adam or AdamW, as ``config.name`` says."""
    kind: type[torch.optim.Adam] = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    groups = parameter_groups(model, config.weight_decay)
    betas = (config.beta1, config.beta2)
    return kind(groups, lr=config.lr, betas=betas, eps=config.eps, fused=_can_fuse(model))


def build_muon(model: nn.Module, config: MuonConfig, bf16: bool) -> torch.optim.Optimizer:
    """Return Muon for ``Trainable.muon_weights`` and AdamW for the other parameters."""
    hidden = model.muon_weights() if isinstance(model, Trainable) else []
    by_gates = [
        {"params": [weight], "gates": gates, "weight_decay": config.weight_decay}
        for weight, gates in hidden
    ]
    return Muon(
        by_gates,
        parameter_groups(model, config.weight_decay, [weight for weight, _ in hidden]),
        config.lr,
        config.matrix_lr,
        config.momentum,
        torch.bfloat16 if bf16 else torch.float32,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=_can_fuse(model),
    )


def build_sgd(model: nn.Module, config: SGDConfig, bf16: bool) -> torch.optim.Optimizer:
    """Return stochastic gradient descent."""
    return torch.optim.SGD(
        parameter_groups(model, config.weight_decay),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=_can_fuse(model),
    )


def build_adagrad(model: nn.Module, config: AdagradConfig, bf16: bool) -> torch.optim.Optimizer:
    """Return Adagrad."""
    groups = parameter_groups(model, config.weight_decay)
    return torch.optim.Adagrad(groups, lr=config.lr, eps=config.eps)


def _can_fuse(model: nn.Module) -> bool:
    """Return whether PyTorch has a fused form, which updates in one pass over memory."""
    return all(p.device.type in ("cpu", "cuda") for p in model.parameters())


def clip_gradients(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    """Clip all gradients to a total L2 norm, in place; ``limit`` None: do not clip.

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
    """Return the learning rate of a step / the peak, without the factor of ``Plateau``."""
    warmup = config.warmup_ratio * total_steps
    if step < warmup:
        rise = step / warmup
        if config.name == "one_cycle":  # Smith 2018, with fastai's cosine
            rise = (1 - math.cos(math.pi * rise)) / 2
        return config.start_factor + (1 - config.start_factor) * rise
    if isinstance(config, DecayConfig):
        decayed = min((step - warmup) / max(total_steps - 1 - warmup, 1), 1.0)
        remaining = (1 + math.cos(math.pi * decayed)) / 2
        if config.name == "slanted_triangular":
            remaining = 1 - decayed
        return config.end_factor + (1 - config.end_factor) * remaining
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
        """Reduce the factor after more than ``patience`` validations without improvement."""
        if not isinstance(config, PlateauConfig):
            return
        self.validations_without_improvement = (
            0 if improved else self.validations_without_improvement + 1
        )
        if self.validations_without_improvement > config.patience:
            self.factor = max(self.factor * config.factor, config.end_factor)
            self.validations_without_improvement = 0
