"""Load a run of any task with the methods that Python code uses, for ``korlm.load``."""

from __future__ import annotations

from pathlib import Path

import torch

from korlm.api.language_model_run import LanguageModelRun as LanguageModelRun
from korlm.api.task_run import TaskRun as TaskRun
from korlm.config import TrainSettings
from korlm.config.metrics import LANGUAGE_MODELING
from korlm.config.paths import path_of
from korlm.runs.trained_run import Run, load_run


def load_any(folder: str | Path, device: torch.device | str = "cpu") -> LanguageModelRun | TaskRun:
    """Load a run of any task on a device; see ``korlm.load``."""

    def class_of(settings: TrainSettings) -> type[Run]:
        return LanguageModelRun if settings.task.name == LANGUAGE_MODELING else TaskRun

    run = load_run(path_of(folder, "run"), class_of)
    assert isinstance(run, LanguageModelRun | TaskRun)
    run.model.to(device)
    return run
