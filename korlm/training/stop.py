"""Stop a training run after the current step when a signal is received."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.utils.signals import stop_signals


class TrainingInterrupted(Exception):  # noqa: N818 - requested by the user
    """Raised between two steps after a stop signal was received."""


class StopSignal:
    """Records the first SIGINT, SIGTERM or SIGHUP; the loop polls it between steps.

    A second SIGINT interrupts immediately. SIGHUP under nohup is ignored, and signals are handled
    in the main thread only.

    Args:
        group: processes that stop together, at the same step, if any of them receives a signal.
    """

    def __init__(self, group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.stop_requested = False
        self._group = group
        self._previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in stop_signals():
            self._previous_handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stop_requested = True

    def check(self) -> None:
        """Raise ``TrainingInterrupted`` if any process received a signal.

        All processes must call it together.
        """
        if self._group.any_rank(self.stop_requested):
            raise TrainingInterrupted
