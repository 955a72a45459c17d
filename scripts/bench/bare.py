"""A trainer without a run around it: what the benchmarks of a step have in common."""

from __future__ import annotations

import torch

from korlm.config import ScheduleConfig, TrainerConfig
from korlm.dataset.batches import Batches
from korlm.models.base import LanguageModel
from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.training.state import Progress
from korlm.training.stop import StopSignal
from korlm.training.trainer import Trainer


def bare_trainer(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    bf16: bool,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Trainer:
    """Trains on the CPU at a constant rate; validates, saves and tells nothing."""
    return Trainer(
        model=model,
        optimizer=optimizer,
        schedule=ScheduleConfig(name="constant"),
        config=TrainerConfig(epochs=1_000_000),
        train=batches,
        device=torch.device("cpu"),
        bf16=bf16,
        progress=Progress(),
        state=None,
        validate=lambda: 0.0,
        save=lambda: None,
        point=lambda *_: None,
        stop=StopSignal(group),
        group=group,
    )
