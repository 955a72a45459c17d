"""TensorBoard: one writer per run; x = optimizer step."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from korlm.training.trackers.base import RunStatus, Splits, Tracker, flatten
from korlm.training.trackers.tensorboard_projector import write_projector


class TensorBoardLogger(Tracker):
    """Writes the event files of a run.

    Args:
        folder: for the event files.
        first_step: scalars of an earlier session from this step on are hidden: the session was
            killed after its last checkpoint.
        charts: metrics of which Custom Scalars shows NAME/train over NAME/valid.
    """

    name = "tensorboard"
    shows_samples = True

    def __init__(self, folder: Path, first_step: int = 0, charts: Sequence[str] = ()) -> None:
        self._folder = folder
        self._first_step = first_step
        self._charts = charts

    @functools.cached_property
    def _writer(self) -> SummaryWriter:
        """Create the writer with the first event: a run that cannot start leaves no file."""
        is_resumed = any(self._folder.glob("events.out.tfevents.*"))
        purge_step = self._first_step if is_resumed else None
        writer = SummaryWriter(str(self._folder), purge_step=purge_step)
        if self._charts:
            layout = {
                name: ["Multiline", [f"{name}/train", f"{name}/valid"]] for name in self._charts
            }
            writer.add_custom_scalars({"train over valid": layout})
        return writer

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, step)

    def flush(self) -> None:
        """Wait until the thread of the writer has written everything."""
        if "_writer" in vars(self):
            self._writer.flush()

    def log_samples(self, step: int, texts: Mapping[str, str]) -> None:
        for tag, text in texts.items():
            self._writer.add_text(tag, text, step)

    def log_images(self, step: int, images: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        for tag, image in images.items():
            self._writer.add_image(tag, image, step, dataformats="HWC")

    def log_embeddings(
        self, weight: Tensor, tokens: Sequence[str], counts: Sequence[int], max_tokens: int
    ) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_projector(self._folder, weight, tokens, counts, max_tokens)

    def log_result(self, step: int, settings: Mapping[str, Any], splits: Splits) -> None:
        """Log the settings for the HParams tab, which takes the metrics from the scalars."""
        # SummaryWriter.add_hparams would open a second writer, and with it a second run. The
        # summary of the experiment is omitted: without it the HParams tab collects the settings of
        # all runs, shows those that differ first, and offers every scalar as a metric.
        _, start, end = hparams(flatten(settings), {})  # type: ignore[no-untyped-call]
        writer: Any = self._writer.file_writer
        for summary in (start, end):
            writer.add_summary(summary)

    def close(self, status: RunStatus = RunStatus.finished) -> None:
        if "_writer" in vars(self):
            self._writer.close()
