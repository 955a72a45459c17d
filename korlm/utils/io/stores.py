"""Copy files from and to object stores; see ``korlm.utils.io.urls``."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from korlm.utils.io.urls import is_url


def copy_file(source: Path, target: Path) -> None:
    """Copy a file; both paths may be URLs. Any error is an ``OSError``."""
    with _store_errors():
        if is_url(source) and is_url(target) and source.fs is target.fs:  # type: ignore[attr-defined]
            source.fs.copy(source.path, target.path)  # type: ignore[attr-defined]
        else:
            with source.open("rb") as reader, target.open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)


def remove_tree(folder: Path) -> None:
    """Remove a folder, which may be a URL, with all of its contents; ignore errors."""
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with contextlib.suppress(OSError), _store_errors():
        folder.fs.rm(folder.path, recursive=True)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """Turn any error of a store within the block into an ``OSError``."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each store has its own exceptions
        raise OSError(" ".join(f"{type(error).__name__}: {error}".split())) from error


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a file itself, or a temporary local copy of a URL."""
    if not is_url(path):
        yield path
        return
    with TemporaryDirectory(prefix="korlm-") as folder:
        local = Path(folder) / path.name
        copy_file(path, local)
        yield local
