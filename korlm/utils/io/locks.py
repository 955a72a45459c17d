"""Locks among processes: who works in a folder works there alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from korlm.utils.errors import OutputError


@contextmanager
def held(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock among processes; its file is removed at the end.

    Args:
        path: of the lock's file.
        timeout: seconds to wait for another process; -1: as long as it takes.

    Raises:
        filelock.Timeout: another process still has it.
    """
    lock = FileLock(path)
    lock.acquire(timeout=timeout)
    try:
        yield
    finally:
        # Before the release: a process that waits for this file sees that it is gone and makes a
        # new one, whereas a file removed later may be the one that the next process holds.
        with contextlib.suppress(OSError):  # Windows keeps what is open
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def alone(path: Path, taken: str) -> Iterator[None]:
    """Holds a lock as long as this lasts; nothing is left of it.

    Args:
        path: of the lock's file.
        taken: what is told if another process has it.

    Raises:
        OutputError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path, timeout=0))
        except Timeout:
            raise OutputError(taken) from None
        yield
