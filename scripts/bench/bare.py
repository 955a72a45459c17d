"""A trainer without a run around it: what the benchmarks of a step have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from korlm.config import ScheduleConfig, TrainerConfig, TrainSettings
from korlm.dataset.batches import Batch, Batches
from korlm.dataset.vocab import Vocab
from korlm.models.base import LanguageModel, TrainingLoss
from korlm.modules.state import State
from korlm.tasks.base import Task
from korlm.training.checkpointing import CheckpointWriter
from korlm.training.state import Progress
from korlm.training.stop import StopSignal
from korlm.training.tensorboard import NullLogger
from korlm.training.trainer import Trainer
from korlm.training.validation import SharedParts, Validator
from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup


class TrainingOnly(Task[LanguageModel]):
    """A language model on given batches, without evaluation."""

    def __init__(self, batches: Batches) -> None:
        self.train_batches, self.eval_batches = batches, {}

    @classmethod
    def build_model(
        cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> LanguageModel:
        """Raise an error: benchmarks build their own models."""
        raise NotImplementedError

    def training_loss(
        self, model: LanguageModel, batch: Batch, state: State | None
    ) -> TrainingLoss:
        """See ``Task.training_loss``."""
        return model.training_loss(batch.inputs, batch.targets, state, batch.lengths)

    def evaluate(
        self, model: LanguageModel, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Raise an error: benchmarks take steps only."""
        raise NotImplementedError


def bare_trainer(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    bf16: bool,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Trainer:
    """Return a trainer with a constant rate, whose ``train_step`` is measured."""
    task, progress, stop = TrainingOnly(batches), Progress(), StopSignal(group)
    tracker = NullLogger()
    checkpoints = CheckpointWriter(Path(), {}, model, optimizer, progress, group)
    shared = vars(SharedParts(model, task, progress, checkpoints, tracker, stop, group))
    return Trainer(
        **shared,
        optimizer=optimizer,
        schedule=ScheduleConfig(name="constant"),
        config=TrainerConfig(epochs=1_000_000),
        device=next(model.parameters()).device,
        bf16=bf16,
        validator=Validator(**shared, total_steps=1),
    )
