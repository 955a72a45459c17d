"""Load a trained run of any task, and predict with it; for Python and for korlm.predict."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from korlm.config import registry
from korlm.config.metrics import LANGUAGE_MODELING
from korlm.dataset.text_encoder import TextEncoder
from korlm.models.base import LanguageModel
from korlm.modules.trainable import Trainable
from korlm.runs.device import available_device
from korlm.runs.trained_run import RunParts, TrainedRun, load_model, refuse_reversed
from korlm.tasks.base import Predictor, Task


@dataclass(frozen=True)
class TaskRun(RunParts):
    """The best model of a run of a task, with everything needed to use it.

    The model is on ``device`` and in evaluation mode.

        run = korlm.load("outputs/runs/DIR")
        run.predict(["정말 재미있다", "돈이 아깝다"])
    """

    model: Trainable
    device: torch.device

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The task's predictor."""
        return task_of(self).build_predictor(self, self.model, self.device)

    def to(self, device: torch.device | str) -> TaskRun:
        """Return a copy of the run whose model is on a device; this run does not change.

        Raises:
            ConfigError: the device is not available.
        """
        device = available_device(device)
        model = copy.deepcopy(self.model).to(device)
        return dataclasses.replace(self, model=model, device=device)

    def predict(
        self, texts: str | Sequence[str], text_encoder: TextEncoder | None = None
    ) -> list[dict[str, Any]]:
        """Return a prediction for each text, as the rows that ``python -m korlm.predict`` writes.

        Args:
            texts: lines of text; a str is a single line.
            text_encoder: result of ``self.text_encoder()``, which several calls may share, so that
                the tokenizer starts only once. None: a new one.

        Raises:
            CorpusError: a text is not a str or has a lone surrogate.
            TokenizerError: the tokenizer of the run does not start.
        """
        if text_encoder is None:
            with self.text_encoder() as text_encoder:
                return self.predict(texts, text_encoder)
        return self.predictor.predict(text_encoder.read_texts(texts))


def task_of(run: RunParts) -> type[Task[Any]]:
    """Return the task class of a run."""
    task_class: type[Task[Any]] = registry.builder("task", run.settings.task.name)
    return task_class


def load_task_run(folder: Path) -> TaskRun:
    """Load best.pt of a run of any task on the CPU.

    Args:
        folder: a run directory, or a path inside one.

    Raises:
        CheckpointError: the folder has no model, or a damaged one.
    """

    def build(parts: RunParts) -> Trainable:
        return task_of(parts).build_model(parts.settings, parts.vocab, parts.labels)

    parts, model = load_model(folder, build)
    return TaskRun(**vars(parts), model=model, device=torch.device("cpu"))


def load(folder: Path) -> TrainedRun | TaskRun:
    """Load a run of any task on the CPU; see ``korlm.load``."""
    run = load_task_run(folder)
    if run.settings.task.name != LANGUAGE_MODELING:
        return run
    refuse_reversed(run)
    assert isinstance(run.model, LanguageModel)
    parts = {key: value for key, value in vars(run).items() if key not in ("model", "device")}
    return TrainedRun(**parts, model=run.model)
