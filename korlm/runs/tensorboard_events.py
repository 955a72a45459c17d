"""Read the curves and the last sampled text from the TensorBoard event files of a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SAMPLES = "samples/text_summary"  # tag of sampled texts

Curve = list[tuple[int, float]]  # (optimizer step, value), sorted by step


@dataclass(frozen=True)
class TensorBoardData:
    """Content of the event files of a run.

    Attributes:
        curves: tag -> points; a point that a resumed run wrote twice is there only once.
        sample: step and text of the last sample; None if there is none.
        problem: one line about missing or damaged files; empty if there are none.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    sample: tuple[int, str] | None = None
    problem: str = ""


def read_events(folder: Path) -> TensorBoardData:
    """Read all event files of a run, and damaged ones as far as possible."""
    logging.getLogger("tensorboard").setLevel(logging.CRITICAL)  # it logs every resumed run
    if not any(folder.glob("events.out.tfevents.*")):
        return TensorBoardData(
            problem="no TensorBoard files: no curves (trainer.tracker without tensorboard?)"
        )
    no_limit = {"scalars": 0, "tensors": 0}
    events = EventAccumulator(str(folder), size_guidance=no_limit)
    problem = ""
    try:
        events.Reload()
    except (DecodeError, OSError, ValueError) as error:
        problem = f"TensorBoard files are damaged ({' '.join(str(error).split())[:100]})"
    tags = events.Tags()
    curves = {
        tag: sorted((point.step, float(point.value)) for point in events.Scalars(tag))
        for tag in tags["scalars"]
    }
    sample = None
    if SAMPLES in tags["tensors"]:
        last = max(events.Tensors(SAMPLES), key=lambda event: (event.step, event.wall_time))
        strings = last.tensor_proto.string_val
        sample = (last.step, strings[0].decode("utf-8", "replace")) if strings else None
    if not curves and not problem:
        problem = "TensorBoard files are empty: no curves"
    return TensorBoardData(curves, sample, problem)
