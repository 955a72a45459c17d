"""Signals that end a training run after the current step."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from korlm.training.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.utils.signals import stop_signals


class TrainingInterrupted(Exception):  # noqa: N818 - the user asked for it
    """Ctrl-C or the end of a cluster's time, noticed between two steps."""


class StopSignal:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a wish that is looked at between steps.

    A second SIGINT interrupts at once.

    Args:
        group: the processes that stop together, whichever of them was told to.
    """

    def __init__(self, group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.stop_requested = False
        self._group = group
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in stop_signals():
            self._before[number] = signal.signal(number, self._wish)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop_requested = True

    def should_stop(self) -> bool:
        """Whether a process of the group was told to stop; all ask at the same point."""
        return self._group.any(self.stop_requested)

    def check(self) -> None:
        """Raises ``TrainingInterrupted`` if somebody wished it."""
        if self.should_stop():
            raise TrainingInterrupted
