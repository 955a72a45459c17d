"""Write files that several processes may write at the same time, all with the same bytes."""

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
    """A file that has a temporary name until it is complete.

    Unlike ``atomic_write``, it needs no locks, which shared disks may lack, and the target may be a
    URL; the folder of a path is created. Write to ``path``.
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
        """Rename the file to the target, or upload it; return its CRC-32."""
        crc32 = checksums.crc32(self.path)
        if is_url(self._target):
            copy_file(self.path, self._target)
            self.path.unlink()
        else:
            fsync_file(self.path)
            os.replace(self.path, self._target)
        return crc32

    def discard(self) -> None:
        """Remove the temporary file, if it was not completed."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename the file to ``target`` after the block.

    If the block raises, the temporary file is removed and ``target`` is left as it was.
    """
    file = NewFile(target)
    try:
        yield file.path
        file.complete()
    finally:
        file.discard()
