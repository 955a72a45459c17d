"""Write .npz files, and read those that may be damaged or crafted to exhaust memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.utils.errors import enough_memory

LARGEST = 1 << 30  # maximum size of a decompressed array in bytes; korlm's own have megabytes


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a .npz file as ``numpy.savez`` does, but without times: equal arrays, equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of a .npz file: name -> array.

    zipfile and NumPy raise almost any exception for damaged bytes; see ``reading``.

    Raises:
        ConfigError: they need more memory than available.
        ValueError: the file contains Python objects, or declares arrays larger than the file.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            _check_member(archive, member, path.stat().st_size)
    with (
        enough_memory(str(path), "use a machine with more"),
        open(path, "rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return dict(arrays)


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file_size: int) -> None:
    """Check the declared size and type of an array before numpy allocates memory for it."""
    is_stored = member.compress_type == zipfile.ZIP_STORED
    if member.file_size > (file_size if is_stored else LARGEST):
        raise ValueError(f"{member.filename} declares {member.file_size:,} bytes")
    with archive.open(member) as part:
        version = np.lib.format.read_magic(part)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{member.filename} has format {version} of numpy")
        shape, _, dtype = read_header(part)
        declared = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or min(shape, default=0) < 0:
            raise ValueError(f"{member.filename} is not an array of numbers")
        if declared != member.file_size - part.tell():
            raise ValueError(
                f"{member.filename} declares {declared:,} bytes and holds "
                f"{member.file_size - part.tell():,}"
            )
