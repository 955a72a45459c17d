"""Write files and folders atomically: they appear complete or not at all; lock them meanwhile."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from korlm.utils.errors import OutputError, output_errors
from korlm.utils.io.urls import copy_file, is_url

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


def write_json(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics as JSON, atomically; values that are not finite become null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(part) for key, part in value.items()}
        if isinstance(value, list):
            return [finite(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    text = json.dumps(finite(metrics), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_write(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path, and give the file the name ``path`` at the end of the block.

    If the block raises, the old file stays as it was and nothing else remains.

    Args:
        path: of the file; if it is a URL, the file is uploaded.
        shared: whether several machines may write the file, all with the same bytes. They do not
            wait for each other, as shared disks may lack locks, and its folder is created.
            Otherwise processes that write the same file wait for each other, and what a killed
            process left is overwritten.

    Raises:
        OSError: ``path`` is a device or a pipe, which the renaming would replace.
    """
    if is_url(path):
        with TemporaryDirectory(prefix="korlm-") as folder:
            local = Path(folder) / path.name
            yield local
            copy_file(local, path)
        return
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with contextlib.ExitStack() as stack:
        if shared:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        else:
            path.parent.stat()  # raises if it is missing; the lock would create it
            stack.enter_context(_only_writer(path))
            temporary = path.with_name(path.name + ".tmp")
        try:
            yield temporary
            _fsync(temporary)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # a folder of that name
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, and give it the name ``path`` at the end of the block.

    If the block raises, nothing remains. Processes that make the same folder wait for each other.
    What a killed process left is removed.

    Raises:
        FileExistsError: ``path`` exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with _only_writer(path):
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists already", str(path))
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _fsync(file)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _only_writer(path: Path) -> contextlib.AbstractContextManager[None]:
    busy = f"waiting for {path}, which another korlm process writes"
    return locked(path.with_name(f".{path.name}.lock"), busy, wait=True)


def _fsync(path: Path) -> None:
    """Flush a file to disk; otherwise it may be empty after a power failure."""
    # Windows requires write access; elsewhere the file may belong to another user.
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_folder(stem: Path, key: str = "outputs=FOLDER") -> str:
    """Create a folder, and return its path; append a number to its name if it exists.

    ``key`` is the setting that selects another location, for the message of the ``OutputError``.
    """
    path, number = stem, 1
    with output_errors(stem, key):
        while True:
            try:  # mkdir is atomic: commands started in the same second must not share a folder
                path.mkdir(parents=True)
                return str(path)
            except FileExistsError:
                if not path.is_dir():
                    raise
                number += 1
                path = stem.with_name(f"{stem.name}_{number}")
