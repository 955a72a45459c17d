"""Signals that end a command: Ctrl-C, a cluster's word that time is up, a terminal that closes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from korlm.utils import dist_env

# Windows has no SIGHUP.
_POLITE = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def stop_signals() -> list[int]:
    """Those that this thread is to hear: none but in the main thread, not SIGHUP under nohup."""
    if threading.current_thread() is not threading.main_thread():
        return []
    heard = [number for number in _POLITE if signal.getsignal(number) is not signal.SIG_IGN]
    return [signal.SIGINT, *heard]


@contextmanager
def signals_as_keyboard_interrupt() -> Iterator[None]:
    """Makes the others what Ctrl-C is, so that nothing half-written and no child stays behind.

    Whoever sends them may send them again and again: the first one counts.
    """
    before: dict[int, Any] = {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for heard in before:
            signal.signal(heard, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        # torchrun ends its processes together and needs no words of theirs.
        for number in stop_signals() if dist_env.place().is_alone else ():
            if number != signal.SIGINT:
                before[number] = signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def preserve_sigint_handler() -> Iterator[None]:
    """Around the import of a library that takes Ctrl-C for itself, as dask_jobqueue does."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
