"""Files that several processes may write at the same time, each the same bytes."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import fsync_file


class NewFile:
    """A file under a temporary name of its own until it is complete.

    Other than ``atomic_write`` it needs no locks, which shared disks may lack.

    Args:
        target: the final path; its folder is created.

    Attributes:
        path: to write to.
    """

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._target = target
        self.path = target.with_name(f".{target.name}.{uuid.uuid4().hex}")

    def complete(self) -> str:
        """Give the file its name; return its checksum."""
        fsync_file(self.path)
        crc32 = checksums.crc32(self.path)
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
