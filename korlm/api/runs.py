"""Load a run of any task with the methods that Python code uses, for ``korlm.load``."""

from __future__ import annotations

from pathlib import Path

from korlm.api.language_model_run import LanguageModelRun as LanguageModelRun
from korlm.api.open_run import fields_of
from korlm.api.task_model_run import TaskModelRun as TaskModelRun
from korlm.config.paths import path_of
from korlm.prediction.task_run import TaskRun, load
from korlm.runs.trained_run import TrainedRun


def load_any(folder: str | Path) -> LanguageModelRun | TaskModelRun:
    """Load a run of any task on the CPU; see ``korlm.load``."""
    run = load(path_of(folder, "run"))
    if isinstance(run, TaskRun):
        return TaskModelRun(**fields_of(run, TaskRun))
    return LanguageModelRun(**fields_of(run, TrainedRun))
