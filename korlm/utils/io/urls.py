"""Files on other machines, by the URLs of fsspec, such as ``s3://bucket/folder``."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from korlm.utils.errors import MissingPackageError, require_extra


def path_of(text: str) -> Path:
    """Return the path of a file or URL; that of a URL has the methods of ``Path``, but is none.

    Raises:
        MissingPackageError: a package is not installed.
    """
    if "://" not in text:
        return Path(text)
    with require_extra("universal_pathlib"):
        from upath import UPath
    for name in ("aiobotocore", "botocore"):  # where they found credentials
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        return cast(Path, UPath(text))
    except ImportError as error:  # fsspec's message names the package
        raise MissingPackageError(f"{text}: {' '.join(str(error).split())}") from error


def is_remote(path: Path) -> bool:
    """Return whether a path is a URL."""
    return not isinstance(path, Path)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file; both may be URLs.

    Raises:
        OSError: it cannot be read or written.
    """
    with remote_errors():
        if is_remote(source) and is_remote(target) and source.fs is target.fs:  # type: ignore[attr-defined]
            source.fs.copy(source.path, target.path)  # type: ignore[attr-defined]
        else:
            with source.open("rb") as reader, target.open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)


def remove_tree(folder: Path) -> None:
    """Remove a folder or URL and all that is in it, as far as possible."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    with contextlib.suppress(OSError), remote_errors():
        folder.fs.rm(folder.path, recursive=True)  # type: ignore[attr-defined]


@contextlib.contextmanager
def remote_errors() -> Iterator[None]:
    """Turn any error of a store within the block into an ``OSError``."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # each store has its own exceptions
        raise OSError(" ".join(f"{type(error).__name__}: {error}".split())) from error


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a local file with the content of a file or URL."""
    if not is_remote(path):
        yield path
        return
    with TemporaryDirectory(prefix="korlm-") as folder:
        local = Path(folder) / path.name
        copy_file(path, local)
        yield local
