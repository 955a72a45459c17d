"""Handle signals that stop a command: Ctrl-C, SIGTERM of a cluster, SIGHUP of a terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from korlm.utils import dist_env

# Windows has no SIGHUP.
_TERMINATION = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def stop_signals() -> list[int]:
    """Return the signals that this thread should handle.

    Only the main thread can handle signals; signals that are ignored (SIGHUP under nohup) stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    handled = [number for number in _TERMINATION if signal.getsignal(number) is not signal.SIG_IGN]
    return [signal.SIGINT, *handled]


@contextmanager
def signals_as_keyboard_interrupt() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` on SIGTERM and SIGHUP, so that all cleanup code runs.

    The first signal counts; further ones are ignored.
    """
    old_handlers: dict[int, Any] = {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for handled in old_handlers:
            signal.signal(handled, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        # torchrun stops its processes together; they must not report the signal.
        for number in stop_signals() if dist_env.current_rank().is_alone else ():
            if number != signal.SIGINT:
                old_handlers[number] = signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)


@contextmanager
def preserve_sigint_handler() -> Iterator[None]:
    """Restore the SIGINT handler after the block, which imports a library that replaces it."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
