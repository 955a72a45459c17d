"""CRC-32 of files, so that a changed bit is noticed when they are opened.

A CRC-32 differs for any single flipped bit and any damaged stretch of up to 32 bits, and one core
computes it at the speed of reading (3 GiB/s, where SHA-256 takes twice and BLAKE2 five times as
long). It guards against damage, not against somebody who changes files on purpose and their
checksums with them.

The file that lists the checksums of the others (``manifest.json``, ``config.json``) carries one of
itself, over its values.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

KEY = "crc32"  # file name -> checksum, as 8 hexadecimal digits


SELF = ""  # in place of a file name: the file in which the checksums stand


_BLOCK = 1 << 22  # bytes that are read at once


def crc32(path: Path) -> str:
    """Compute the checksum of a file; a process reads a file that has not changed only once."""
    found = os.stat(path)
    return _crc32(os.fspath(path.resolve()), found.st_size, found.st_mtime_ns, found.st_ino)


@functools.lru_cache(maxsize=1 << 16)
def _crc32(path: str, *state: int) -> str:
    value = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def sealed(values: Mapping[str, Any], folder: Path, paths: Iterable[Path]) -> dict[str, Any]:
    """Return values with the checksums of files and of the values themselves.

    Args:
        values: as JSON can hold them.
        folder: in which the files lie.
        paths: of the files.
    """
    sums = {path.relative_to(folder).as_posix(): crc32(path) for path in sorted(paths)}
    whole = {**values, KEY: sums}
    return {**whole, KEY: {**sums, SELF: _crc32_of_values(whole)}}


def check_seal(values: Mapping[str, Any]) -> None:
    """Check that values are those that ``sealed`` gave.

    Raises:
        ValueError: they have changed, or carry no checksums.
    """
    sums = values.get(KEY)
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise ValueError("it has no checksums")
    others = {name: value for name, value in sums.items() if name != SELF}
    if sums.get(SELF) != _crc32_of_values({**values, KEY: others}):
        raise ValueError("its checksum does not fit: a value has changed")


def check_file(path: Path, folder: Path, sums: Mapping[str, str]) -> None:
    """Check a file against its checksum, at the speed at which it can be read.

    Args:
        path: of the file.
        folder: in which the names of ``sums`` lie.
        sums: file name -> checksum.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has changed, or has no checksum.
    """
    expected = sums.get(path.relative_to(folder).as_posix())
    if expected is None:
        raise ValueError("it has no checksum")
    if (found := crc32(path)) != expected:
        raise ValueError(f"its checksum is {found}, not {expected}: bytes have changed")


def _crc32_of_values(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=True)
    return f"{zlib.crc32(text.encode()):08x}"
