"""Build the trackers of ``trainer.tracker``, as a list that forwards to each."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from korlm.config import TrackerName
from korlm.training.trackers.base import RunStatus, Splits, Tracker
from korlm.training.trackers.mlflow import MLflowTracker
from korlm.training.trackers.tensorboard import TensorBoardLogger
from korlm.training.trackers.wandb import WandbTracker
from korlm.utils.errors import KorlmError, TrainingError, reason_of

logger = logging.getLogger(__name__)


class TrackerList(Tracker):
    """Forwards to several trackers.

    A tracker that fails during the training is dropped with a warning: the training goes on.
    """

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = list(trackers)

    @property
    def shows_samples(self) -> bool:
        return any(tracker.shows_samples for tracker in self._trackers)

    def start(self) -> None:
        """Start all trackers.

        Raises:
            KorlmError: a tracker cannot record. Raised, not logged as later: the user can still
                correct it. ``close`` also ends the trackers that have started.
        """
        for tracker in self._trackers:
            try:
                tracker.start()
            except KorlmError:
                raise
            except Exception as error:
                raise TrainingError(
                    f"trainer.tracker={tracker.name}: cannot record ({_short_reason(error)}); "
                    f"correct this, or leave {tracker.name} out of trainer.tracker"
                ) from error

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._forward(lambda tracker: tracker.log_scalars(step, scalars))

    def flush(self) -> None:
        self._forward(lambda tracker: tracker.flush())

    def log_samples(self, step: int, texts: Mapping[str, str]) -> None:
        self._forward(lambda tracker: tracker.log_samples(step, texts))

    def log_images(self, step: int, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        self._forward(lambda tracker: tracker.log_images(step, images))

    def log_embeddings(
        self, weight: Tensor, tokens: Sequence[str], counts: Sequence[int], max_tokens: int
    ) -> None:
        self._forward(lambda tracker: tracker.log_embeddings(weight, tokens, counts, max_tokens))

    def log_result(self, step: int, settings: Mapping[str, Any], splits: Splits) -> None:
        self._forward(lambda tracker: tracker.log_result(step, settings, splits))

    def close(self, status: RunStatus = RunStatus.finished) -> None:
        for tracker in self._trackers:
            try:
                tracker.close(status)
            except Exception as error:
                _warn_of(tracker, error)
        self._trackers.clear()

    def _forward(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                call(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                _warn_of(tracker, error)
                with contextlib.suppress(Exception):
                    tracker.close(RunStatus.failed)


def _warn_of(tracker: Tracker, error: Exception) -> None:
    """Log that a tracker failed."""
    logger.warning(
        "trainer.tracker=%s: failed (%s); nothing more is recorded there",
        tracker.name,
        _short_reason(error),
    )


def _short_reason(error: Exception) -> str:
    """Return the reason of an error, without the long advice that some libraries append."""
    reason = reason_of(error)
    return reason if len(reason) <= 200 else f"{reason[:200]} ..."


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
