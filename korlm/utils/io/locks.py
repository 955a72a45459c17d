"""Lock folders and files, so that only one process works on them."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from korlm.utils.errors import OutputError

logger = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock within the block, and remove its file at the end.

    On a disk without locks, nothing is locked.

    Args:
        path: the file of the lock.
        busy: logged if the lock is waited for, else the message of the error.
        wait: whether to wait while another process has the lock.

    Raises:
        OutputError: another process has the lock.
    """
    from filelock import FileLock, Timeout  # slow import

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise OutputError(busy) from None
        logger.info("%s", busy)
        lock.acquire()
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
    try:
        yield
    finally:
        # Before the release: a waiting process notices that the file is gone and creates a new
        # one. A file removed later could be the one that the next process has locked.
        with contextlib.suppress(OSError):  # Windows cannot remove open files
            path.unlink(missing_ok=True)
        lock.release()
