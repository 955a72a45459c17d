"""Build the trackers of ``trainer.tracker``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from korlm.config import TrackerName
from korlm.training.trackers.base import Tracker, TrackerList
from korlm.training.trackers.mlflow import MLflowTracker
from korlm.training.trackers.tensorboard import TensorBoardLogger
from korlm.training.trackers.wandb import WandbTracker


def build_trackers(
    names: Sequence[TrackerName],
    folder: Path,
    settings: Mapping[str, Any],
    first_step: int = 0,
    charts: Sequence[str] = (),
) -> TrackerList:
    """Return the trackers of a run; none of them writes before it is started or used."""
    trackers: dict[TrackerName, Tracker] = {
        TrackerName.tensorboard: TensorBoardLogger(folder / "tensorboard", first_step, charts),
        TrackerName.mlflow: MLflowTracker(folder, settings),
        TrackerName.wandb: WandbTracker(folder, settings),
    }
    return TrackerList([trackers[name] for name in names])
