"""TensorBoard event files of a run -> curves and the last sampled text."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SAMPLES = "samples/text_summary"

Curve = list[tuple[int, float]]  # (optimizer step, value), by step


@dataclass(frozen=True)
class TensorBoardData:
    """Content of the event files of a run.

    Attributes:
        curves: tag -> points; points that a resumed run wrote twice are there once.
        sample: step and text of the last sample; None if there is none.
        problem: one line if the files are missing or damaged, else empty.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    sample: tuple[int, str] | None = None
    problem: str = ""


def read_events(folder: Path) -> TensorBoardData:
    """Read all event files of a run, a damaged one up to the damage."""
    logging.getLogger("tensorboard").setLevel(logging.CRITICAL)  # logs every resumed run
    if not any(folder.glob("events.out.tfevents.*")):
        return TensorBoardData(problem="no TensorBoard files: no curves and no samples")
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
