"""SIGTERM, on both sides: a sweep that is to end, a job that is to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, NoReturn


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turns the first SIGTERM into KeyboardInterrupt, as long as this lasts; others are ignored.

    Training hears it itself and stops between two steps; elsewhere nothing is lost.
    """

    def interrupt(*args: Any) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
