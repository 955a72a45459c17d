"""Locks among processes: who works in a folder works there alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from korlm.errors import OutputError


@contextmanager
def alone(path: Path, taken: str) -> Iterator[None]:
    """Holds a lock as long as this lasts; nothing is left of it.

    Args:
        path: of the lock's file.
        taken: what is told if another process has it.

    Raises:
        OutputError: another process has it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(taken) from None
    try:
        yield
    finally:
        # Before it is let go: who waits for it must not have the file taken away.
        with contextlib.suppress(PermissionError):  # Windows keeps what is open
            path.unlink(missing_ok=True)
        lock.release()
