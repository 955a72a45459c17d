"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a place beside ``path`` to write to, and renames it when all is written.

    Whatever goes wrong within leaves the old file as it was and nothing half-written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_file():  # not a folder that stands in the way
            temporary.unlink()
