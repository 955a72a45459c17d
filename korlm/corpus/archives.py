"""Open plain files, and files in zip archives, whose paths treat the archive as a folder.

The path ``texts.zip/2026/news.json`` is the member ``2026/news.json`` of the file ``texts.zip``.
"""

from __future__ import annotations

import contextlib
import functools
import zipfile
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from korlm.utils.errors import CorpusError
from korlm.utils.io.urls import BLOCK, is_url, open_binary, version_of

SUFFIX = ".zip"
_UTF8_NAME = 0x800  # flag of a member whose name is UTF-8


def is_archive(path: Path) -> bool:
    """Return True if a path is a file with the ending .zip."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def members_of(path: Path) -> list[Path]:
    """Return the paths of all files in a zip archive, sorted; hidden files are left out.

    ``path`` is the archive, or a folder in it, or a file in it, which is then the only one. For a
    path outside of archives: [].

    Raises:
        CorpusError: the archive is damaged, or a name in it is absolute or contains ``..``.
        OSError: the archive cannot be opened. For a URL, any exception may be raised
            (``url_errors``).
    """
    archive = path if is_archive(path) else _archive_and_name(path)[0]
    if archive is None:
        return []
    files = [
        archive / name
        for name in map(PurePosixPath, _open_archive(archive)[1])
        if not is_hidden(name)
    ]
    return sorted(file for file in files if path in (file, *file.parents))


def is_hidden(path: PurePath) -> bool:
    """Return True if a file, or a folder of its path, is hidden or a copy of macOS's metadata."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def open_file(path: Path, block: int = BLOCK) -> IO[bytes]:
    """Open a plain file or a member of a zip archive as a seekable stream of bytes.

    A URL is fetched in requests of ``block`` bytes.

    Raises:
        CorpusError: the archive is damaged, or the member is encrypted.
        OSError: the file cannot be opened.
    """
    archive, name = _archive_and_name(path)
    if archive is None:
        return open_binary(path, block)
    opened_archive, members = _open_archive(archive)
    if name not in members:
        raise FileNotFoundError(path)
    try:
        return opened_archive.open(members[name])
    except (RuntimeError, NotImplementedError, UnicodeError, zipfile.BadZipFile) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); unpack the archive first") from error


def is_member(path: Path) -> bool:
    """Return True if a path is inside a zip archive."""
    return _archive_and_name(path)[0] is not None


def file_version(path: Path) -> tuple[int, str]:
    """Return the size of a plain file or of a member of a zip archive, in bytes, and its version.

    The version is a text that differs after the file has been changed.

    Raises:
        CorpusError: the archive is damaged.
        OSError: the file does not exist.
    """
    archive, name = _archive_and_name(path)
    if archive is None:
        return version_of(path)
    members = _open_archive(archive)[1]
    if name not in members:
        raise FileNotFoundError(path)
    return members[name].file_size, str(members[name].CRC)


def _archive_and_name(path: Path) -> tuple[Path | None, str]:
    """Return the archive that contains a path, and the name of the path in it.

    A path outside of archives: None and "".
    """
    for parent in path.parents:
        if is_archive(parent):
            return parent, path.relative_to(parent).as_posix()
    return None, ""


def _open_archive(path: Path) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Return an open archive, and its files by their names.

    It stays open, since many files of it are usually read; a changed archive is opened again.
    """
    return _open_cached(path, version_of(path))


@functools.lru_cache(maxsize=4)  # an archive may list 100,000 members; its list is read once
def _open_cached(
    path: Path, _version: tuple[int, str]
) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    try:
        archive = zipfile.ZipFile(open_binary(path) if is_url(path) else path)
    # A name that is not in the encoding that it claims, or a feature of a newer version of zip.
    except (zipfile.BadZipFile, UnicodeError, NotImplementedError) as error:
        raise CorpusError(f"{path}: not a zip archive that can be read ({error})") from error
    members = {_member_name(info): info for info in archive.infolist() if not info.is_dir()}
    outside = [name for name in members if name.startswith("/") or ".." in name.split("/")]
    if outside:  # such a path does not lead into the archive
        raise CorpusError(
            f"{path}: the names of {len(outside)} of its files begin with / or contain .., such as "
            f"{outside[0]}; unpack the archive and name the folder"
        )
    return archive, members


def _member_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a file in an archive, without ``./`` and ``//``.

    If the archive does not say that the name is UTF-8, it is UTF-8 nevertheless (macOS) or cp949
    (Korean Windows), and zipfile has decoded it as cp437.
    """
    name = info.filename
    if not info.flag_bits & _UTF8_NAME and not name.isascii():
        # The last one that fits: of names of two syllables, 38 % of those in UTF-8 can be read as
        # cp949 by chance, but 1 % of those in cp949 as UTF-8.
        for encoding in ("cp949", "utf-8"):
            with contextlib.suppress(UnicodeError):
                name = info.filename.encode("cp437").decode(encoding)
    return str(PurePosixPath(name))
