"""Files that several processes may write at the same time, each the same bytes."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import fsync_file
from korlm.utils.io.stores import copy_file
from korlm.utils.io.urls import is_url


class NewFile:
    """A file under a temporary name of its own until it is complete.

    Other than ``atomic_write`` it needs no locks, which shared disks may lack.

    Args:
        target: the final path or URL; its folder is created.

    Attributes:
        path: to write to.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        name = f".{target.name}.{uuid.uuid4().hex}"
        if is_url(target):
            self.path = Path(tempfile.gettempdir()) / name
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.path = target.with_name(name)

    def complete(self) -> str:
        """Give the file its name, or upload it; return its checksum."""
        crc32 = checksums.crc32(self.path)
        if is_url(self._target):
            copy_file(self.path, self._target)
            self.path.unlink()
        else:
            fsync_file(self.path)
            os.replace(self.path, self._target)
        return crc32

    def discard(self) -> None:
        """Remove the file, unless it is complete."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path; the file gets its name at the end of the block."""
    file = NewFile(target)
    try:
        yield file.path
        file.complete()
    finally:
        file.discard()
