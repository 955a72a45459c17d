"""Lock folders, so that only one process works in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from korlm.utils.errors import OutputError


@contextmanager
def file_lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock within the block, and remove its file at the end.

    Raises:
        filelock.Timeout: another process still holds the lock after ``timeout`` seconds; -1: no
            limit.
    """
    lock = FileLock(path)
    lock.acquire(timeout=timeout)
    try:
        yield
    finally:
        # Before the release: a waiting process notices that the file is gone and creates a new
        # one. A file removed later could be the one that the next process has locked.
        with contextlib.suppress(OSError):  # Windows cannot remove open files
            path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def exclusive_lock(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock within the block; if another process has it, raise ``taken`` as OutputError."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path, timeout=0))
        except Timeout:
            raise OutputError(taken) from None
        yield
