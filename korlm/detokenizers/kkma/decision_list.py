"""Which way of joining it is: a decision list over contexts, from coarse ones to fine ones.

The rules (``rules.py``) leave choices open: 되+었 is 됐 or 되었, 이르+어 is 일러
or 이르러, and 낳+ㄴ is 난 wherever Kkma took 난 for it. Each context of a join may name an
operation: a rule's, or a literal one, ``=OLD>NEW``, which rewrites the end of the surface. The
finest context that names one decides (Rivest 1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from korlm.detokenizers.kkma.rules import Operation, operations
from korlm.text.hangul import is_syllable, split

LITERAL = "="


LEVELS = 10  # of contexts; the last three need tags


_UNTAGGED = 7


class Join(NamedTuple):
    """A morph added to a surface; tags are empty where they are not known."""

    surface: str
    left: str
    right: str
    left_tag: str = ""
    right_tag: str = ""


@lru_cache(maxsize=1 << 14)
def _shape(char: str) -> str:
    return "".join(split(char)[1:]) if is_syllable(char) else "-"


def context(level: int, join: Join) -> str:
    """One of the contexts of a join, from the coarsest, 0, to the finest.

    >>> [context(level, Join("오르", "오르", "았")).split(chr(31)) for level in (0, 2)]
    [['0', 'ㅡ', '았'], ['2', '르', '았']]
    """
    surface, left, right, left_tag, right_tag = join
    last = surface[-1:]
    if level == 0:
        return f"0\x1f{_shape(last)}\x1f{right[:1]}"
    if level == 1:
        return f"1\x1f{_shape(last)}\x1f{right}"
    if level == 2:
        return f"2\x1f{last}\x1f{right}"
    if level == 3:
        return f"3\x1f{left}\x1f{right}"
    if level in (4, 5):  # the last two characters, the last three
        return f"{level}\x1f{surface[2 - level :]}\x1f{left}\x1f{right}"
    if level == 6:
        return f"6\x1f{surface}\x1f{left}\x1f{right}"
    tags = f"{left_tag}\x1f{right_tag}"
    if level == 7:
        return f"7\x1f{last}\x1f{right}\x1f{tags}"
    if level == 8:
        return f"8\x1f{left}\x1f{right}\x1f{tags}"
    return f"9\x1f{surface}\x1f{left}\x1f{right}\x1f{tags}"


def operation_of(name: str, join: Join) -> Operation | None:
    """The operation of this name, if it can be done here."""
    if name.startswith(LITERAL):
        old, _, new = name[1:].partition(">")
        return Operation(name, len(old), new) if join.surface.endswith(old) else None
    for operation in operations(join.surface, join.left, join.right):
        if operation.name == name:
            return operation
    return None


def decide(entries: Mapping[str, str], join: Join) -> Operation:
    """The operation that the finest context names; else the rules' first."""
    finest = LEVELS if join.left_tag or join.right_tag else _UNTAGGED
    for level in range(finest - 1, -1, -1):
        name = entries.get(context(level, join))
        if name is not None and (operation := operation_of(name, join)) is not None:
            return operation
    return operations(join.surface, join.left, join.right)[0]
