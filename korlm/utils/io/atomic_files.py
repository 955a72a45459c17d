"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from korlm.utils.errors import output_errors


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Writes figures as JSON, whole or not at all; null for what is beyond all floats."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(part) for key, part in value.items()}
        if isinstance(value, list):
            return [finite(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    text = json.dumps(finite(figures), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if sys.platform != "win32":  # there, two that write one file at once meet an error
    import fcntl


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a place beside ``path`` to write to, and renames it when all is written.

    Whatever goes wrong within leaves the old file as it was and nothing half-written; what a killed
    process left there is overwritten. Processes that write the same file take turns.
    """
    temporary = path.with_name(path.name + ".tmp")
    with _my_turn(temporary):
        try:
            yield temporary
            fsync_file(temporary)
            os.replace(temporary, path)
        except BaseException:
            if temporary.is_file():  # not a folder that stands in the way
                temporary.unlink()
            raise


def fsync_file(path: Path) -> None:
    """Waits until what a file holds is on the disk.

    A name given before that may stand before an empty file when the power has failed.
    """
    # Windows wants to see that it may be written; elsewhere it may belong to somebody else.
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _my_turn(path: Path) -> Iterator[None]:
    """Makes a file, or waits until no living process holds it; the system lets go for the dead."""
    if sys.platform == "win32":
        yield
        return
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with contextlib.suppress(OSError):  # a network folder may have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name: the one waited for may have been renamed."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def new_folder(stem: Path, key: str = "outputs=FOLDER") -> str:
    """Makes a folder of this name, or with a number behind it where it is taken.

    Args:
        stem: the name.
        key: the setting that leads to another place, for the message.
    """
    path, number = stem, 1
    with output_errors(stem, key):
        while True:
            try:  # made here and now: two commands of the same second must not share it
                path.mkdir(parents=True)
                return str(path)
            except FileExistsError:
                if not path.is_dir():
                    raise
                number += 1
                path = stem.with_name(f"{stem.name}_{number}")
