"""Write files atomically: they appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from korlm.utils.errors import output_errors

logger = logging.getLogger(__name__)


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


if sys.platform != "win32":  # on Windows, writing the same file twice at once fails
    import fcntl


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and rename it to ``path`` at the end of the block.

    If the block raises, the old file stays as it was. Processes that write the same file wait for
    each other. A temporary file that a killed process left is overwritten.

    Raises:
        OSError: ``path`` is a device or a pipe, which the renaming would replace.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    temporary = path.with_name(path.name + ".tmp")
    with _exclusive(temporary, path):
        try:
            yield temporary
            fsync_file(temporary)
            os.replace(temporary, path)
        except BaseException:
            if temporary.is_file():  # not a folder of that name
                temporary.unlink()
            raise


def fsync_file(path: Path) -> None:
    """Flush a file to disk; otherwise it may be empty after a power failure."""
    # Windows requires write access; elsewhere the file may belong to another user.
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _exclusive(path: Path, target: Path) -> Iterator[None]:
    """Create and lock a file; wait while another living process has it locked.

    ``target`` is the file that the log names when it has to wait.
    """
    if sys.platform == "win32":
        yield
        return
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # network folders may not support locks
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    logger.info("waiting for another korlm process that writes %s", target)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return True if an open file still has this path; another process may have renamed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


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
