"""Eojeols, the units between blanks, of many lines at once: array speed in place of ``str.split``.

``str.split`` makes an object of every unit; that alone was a third of the time of preparing a text
with the eojeol tokenizer. Here the bytes of all lines are looked at together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.text.unicode import BLANKS

Ints = npt.NDArray[np.integer[Any]]


_UNIT, _SPACE, _CONTROL, _LEAD = range(4)  # what a byte may be; _LEAD: of a blank or something else


_SPACES = "".join(c for c in BLANKS if c.isascii() and c.isspace()).encode()


_KINDS = bytearray(256)


_IS_LONG_BLANK = np.zeros(0x4000, dtype=bool)  # by code point, of those of two or three bytes


for _char in BLANKS:
    _first = _char.encode()[0]
    _KINDS[_first] = _LEAD if not _char.isascii() else _SPACE if _first in _SPACES else _CONTROL
    _IS_LONG_BLANK[ord(_char)] = not _char.isascii()


def split_units(texts: Sequence[str]) -> tuple[Ints, pa.StringArray]:
    """The units of lines: how many each line has, and all of them, one line after another.

    A blank line has none, even if it holds control characters, which ``str.split`` would give.

    >>> lengths, units = split_units(["나는  간다", "", " 너도"])
    >>> lengths.tolist(), units.to_pylist()
    ([2, 0, 1], ['나는', '간다', '너도'])
    """
    data = _joined(texts)
    if (found := _edges(data, len(texts))) is None:
        units = [text.split() if text.strip(BLANKS) else [] for text in texts]
        flat = [unit for line in units for unit in line]
        return np.array([len(line) for line in units], dtype=np.int64), pa.array(flat, pa.string())
    edges, ends = found
    offsets = np.zeros(len(edges) // 2 + 1, dtype=np.int32)
    np.cumsum(edges[1::2] - edges[::2], out=offsets[1:])
    buffers = pa.py_buffer(offsets), pa.py_buffer(data.translate(None, _SPACES))
    return _per_line(edges, ends), pa.StringArray.from_buffers(len(offsets) - 1, *buffers)


def count_units(texts: Sequence[str]) -> Ints:
    """How many units each line has; shape (lines,)."""
    if (found := _edges(_joined(texts), len(texts))) is None:
        units = (len(text.split()) if text.strip(BLANKS) else 0 for text in texts)
        return np.fromiter(units, np.int64, len(texts))
    return _per_line(*found)


def _joined(texts: Sequence[str]) -> bytes:
    """The bytes of all lines, with a line end before the first and after each."""
    return "\n".join(("", *texts, "")).encode()


def _edges(data: bytes, num_lines: int) -> tuple[Ints, Ints] | None:
    """Where units begin and end, in turn, and where line ends are.

    None where single bytes do not tell: there are blanks of several bytes, control characters, or
    line ends within lines. They are rare enough to be left to ``str.split``.
    """
    told = data.translate(_KINDS)
    kinds = np.frombuffer(told, np.uint8)
    line_ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    if _CONTROL in told or len(line_ends) != num_lines + 1 or _has_long_blank(data, kinds):
        return None
    is_space = kinds == _SPACE
    return np.flatnonzero(is_space[1:] != is_space[:-1]) + 1, line_ends


def _has_long_blank(data: bytes, kinds: npt.NDArray[np.uint8]) -> bool:
    at = np.flatnonzero(kinds == _LEAD)
    if not len(at):
        return False
    numbers = np.frombuffer(data, np.uint8)
    first, second = numbers[at].astype(np.int32), numbers[at + 1].astype(np.int32) & 0x3F
    long = (first & 0xF) << 12 | second << 6 | numbers[at + 2] & 0x3F  # the text ends with \n
    return bool(_IS_LONG_BLANK[np.where(first < 0xE0, (first & 0x1F) << 6 | second, long)].any())


def _per_line(edges: Ints, line_ends: Ints) -> Ints:
    return np.diff(np.searchsorted(edges[::2], line_ends))
