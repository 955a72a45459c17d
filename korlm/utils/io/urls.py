"""Open and copy files of paths that may be URLs (s3://, hdfs://, hf://, https://), with fsspec."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

from korlm.utils.errors import KorlmError, install_command

# Bytes per request. With fsspec's default, 50 MB would be fetched to look at a file's beginning.
BLOCK = 1 << 22
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(path: str | Path) -> bool:
    """Return True if a path is a URL.

    >>> is_url("s3://bucket/a.txt"), is_url("konlpy:kolaw"), is_url("a.txt")
    (True, False, False)
    """
    return _URL.match(str(path)) is not None


def to_path(text: str, kind: type[KorlmError]) -> Path:
    """Return the path of a text; for a URL a ``UPath``, which has the methods of a ``Path``.

    Raises:
        KorlmError: of the class ``kind``; the kind of URL is unknown, or needs a package that is
            not installed.
    """
    if not is_url(text):
        return Path(text).expanduser()
    from upath import UPath  # slow import

    with url_errors(text, kind):
        path = UPath(text)
        path.fs  # noqa: B018  imports the package
    return cast(Path, path)


def open_binary(path: Path, block: int = BLOCK) -> IO[bytes]:
    """Open a file for reading; a URL is fetched in blocks of ``block`` bytes as it is read."""
    if is_url(path):
        return cast(IO[bytes], path.open("rb", block_size=block))  # type: ignore[call-overload]
    return path.open("rb")


def version_of(path: Path) -> tuple[int, str]:
    """Return the size of a file, and a text that differs after the file has been changed.

    Raises:
        OSError: there is no such file. For a URL, any exception may be raised (``url_errors``).
    """
    if not is_url(path):
        stat = path.stat()
        return stat.st_size, str(stat.st_mtime_ns)
    info = path.fs.info(path.path)  # type: ignore[attr-defined]
    if info["type"] != "file":
        raise IsADirectoryError(str(path))
    keys = ("ETag", "etag", "LastModified", "mtime", "created")
    version = next((info[key] for key in keys if info.get(key)), "")
    return int(info["size"] or 0), str(version)


@contextmanager
def url_errors(url: str | Path, kind: type[KorlmError]) -> Iterator[None]:
    """Turn the exceptions of fsspec within the block into errors of the class ``kind``, one line.

    The exceptions of a local path are left alone.
    """
    if not is_url(url):
        yield
        return
    try:
        yield
    except KorlmError:
        raise
    except ImportError as error:
        package = re.search(r"nstall (\S+)", str(error))
        if package is None:
            raise kind(f"{url}: {_first_line(error)}") from error
        command = install_command(package[1])
        raise kind(f"{url}: needs a package that is not installed: {command}") from error
    except FileNotFoundError as error:
        raise kind(f"{url}: there is no such file, folder or bucket") from error
    except Exception as error:  # each file system has its own kinds
        # ``_store_errors`` turns errors into an OSError, and keeps them as its cause.
        kinds = [type(kind).__name__ for kind in (error, error.__cause__)]
        if any(kind == "PermissionError" or "Credentials" in kind for kind in kinds):
            raise kind(
                f"{url}: access is denied ({_first_line(error)}); give credentials, of s3:// as "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in ~/.aws"
            ) from error
        raise kind(f"{url}: cannot be read or written ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


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
