"""What a run told TensorBoard, read by TensorBoard's own reader: curves and sampled text."""

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
    """What stands in the event files of a run.

    Attributes:
        curves: tag -> its points; what a resumed run wrote twice counts once.
        sample: the step of the last text and the text itself, if there is one.
        damage: what is wrong with the files, in one line; empty if nothing is.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    sample: tuple[int, str] | None = None
    damage: str = ""


def read_events(folder: Path) -> TensorBoardData:
    """Reads all event files of a run; of a damaged one what stands before the damage."""
    logging.getLogger("tensorboard").setLevel(logging.CRITICAL)  # tells of each resumed run
    if not any(folder.glob("events.out.tfevents.*")):
        return TensorBoardData(damage="no TensorBoard files: no curves and no text")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})  # all
    damage = ""
    try:
        events.Reload()
    except (DecodeError, OSError, ValueError) as error:
        damage = f"TensorBoard files are damaged ({' '.join(str(error).split())[:100]})"
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
    if not curves and not damage:
        damage = "TensorBoard files without a point: no curves"
    return TensorBoardData(curves, sample, damage)
