"""Define the interface of experiment trackers, and what their implementations share."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from korlm.config.serialization import dotted_items
from korlm.utils.io.atomic_files import write_json

Splits = Mapping[str, Mapping[str, float]]  # metrics by split

_IDS = "tracker_ids.json"


class RunStatus(enum.Enum):
    """Outcome of a training session, as trackers record it."""

    finished = "finished"
    interrupted = "interrupted"
    failed = "failed"


class Tracker:
    """Base class of trackers; its methods do nothing. x = optimizer step.

    Attributes:
        name: value of ``trainer.tracker``.
    """

    name: ClassVar[str] = ""

    @property
    def shows_samples(self) -> bool:
        """Return whether ``log_samples`` and ``log_images`` record anything."""
        return False

    def start(self) -> None:
        """Start recording, or continue the run that is recorded in the run directory."""

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log scalars by tag."""

    def flush(self) -> None:
        """Write everything that was logged; a checkpoint must not be newer than its points."""

    def log_samples(self, step: int, texts: Mapping[str, str]) -> None:
        """Log texts in Markdown by tag."""

    def log_images(self, step: int, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Log images, (height, width, 3), by tag."""

    def log_embeddings(
        self, weight: Tensor, tokens: Sequence[str], counts: Sequence[int], max_tokens: int
    ) -> None:
        """Log the embeddings, (V, E), of the most frequent tokens."""

    def log_result(self, step: int, settings: Mapping[str, Any], splits: Splits) -> None:
        """Log the settings and the final metrics of a trained model."""

    def close(self, status: RunStatus = RunStatus.finished) -> None:
        """Write pending data and end the recording; further calls do nothing."""


def flatten(settings: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return nested settings with dotted keys; an empty group has none.

    User names and passwords in URLs are left out; what follows ? in them is not.

    >>> flatten({"model": {"name": "lstm", "dims": [1, 2]}, "seed": 1, "name": None})
    {'model.name': 'lstm', 'model.dims': '[1, 2]', 'seed': 1, 'name': ''}
    >>> flatten({"corpus": {"files": ["s3://me:secret@host/a.txt"]}})
    {'corpus.files': "['s3://host/a.txt']"}
    """
    return {key: _plain(value) for key, value in dotted_items(settings)}


def _plain(value: object) -> str | int | float | bool:
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return value
    return re.sub(r"(?<=://)[^/\s]*@", "", str(value))


def read_id(folder: Path, tracker: str) -> str | None:
    """Return the id under which a tracker knows the run of a run directory; None: unknown."""
    run_id = _read_ids(folder).get(tracker)
    return run_id if isinstance(run_id, str) and re.fullmatch(r"\w+", run_id) else None


def write_id(folder: Path, tracker: str, run_id: str) -> None:
    """Store the id for ``read_id``."""
    write_json(folder / _IDS, _read_ids(folder) | {tracker: run_id})


def _read_ids(folder: Path) -> dict[str, Any]:
    try:
        ids = json.loads((folder / _IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return ids if isinstance(ids, dict) else {}
