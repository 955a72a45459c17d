"""Choose joining operations by a decision list over contexts, coarse to fine (Rivest 1987).

The rules (``rules.py``) are ambiguous: 되+었 is 됐 or 되었, 이르+어 is 일러 or 이르러, and 낳+ㄴ is
written 난 wherever Kkma took 난 for a form of 낳. Each context of a join may have an entry that
names an operation: one of the rules, or a literal one, ``=OLD>NEW``, which replaces the end of the
surface. The entry of the finest context decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from korlm.detokenizers.kkma.rules import Operation, operations
from korlm.text.hangul import is_syllable, split_syllable

LITERAL = "="
NUM_LEVELS = 10  # number of levels of contexts, coarse to fine
_NUM_UNTAGGED_LEVELS = 7  # number of levels that need no tags


class Join(NamedTuple):
    """A morph ``right`` to join to a surface whose last morph is ``left``; tags "" are unknown."""

    surface: str
    left: str
    right: str
    left_tag: str = ""
    right_tag: str = ""


@lru_cache(maxsize=1 << 14)
def _rime(char: str) -> str:
    """Return the vowel and final consonant of a syllable; ``-`` for any other character."""
    return "".join(split_syllable(char)[1:]) if is_syllable(char) else "-"


def context_key(level: int, join: Join) -> str:
    """Return the key of a join's context at a level; level 0 is the coarsest.

    >>> [context_key(level, Join("오르", "오르", "았")).split(chr(31)) for level in (0, 2)]
    [['0', 'ㅡ', '았'], ['2', '르', '았']]
    """
    surface, left, right, left_tag, right_tag = join
    last = surface[-1:]
    if level == 0:
        return f"0\x1f{_rime(last)}\x1f{right[:1]}"
    if level == 1:
        return f"1\x1f{_rime(last)}\x1f{right}"
    if level == 2:
        return f"2\x1f{last}\x1f{right}"
    if level == 3:
        return f"3\x1f{left}\x1f{right}"
    if level in (4, 5):  # the last two and three characters
        return f"{level}\x1f{surface[2 - level :]}\x1f{left}\x1f{right}"
    if level == 6:
        return f"6\x1f{surface}\x1f{left}\x1f{right}"
    tags = f"{left_tag}\x1f{right_tag}"
    if level == 7:
        return f"7\x1f{last}\x1f{right}\x1f{tags}"
    if level == 8:
        return f"8\x1f{left}\x1f{right}\x1f{tags}"
    return f"9\x1f{surface}\x1f{left}\x1f{right}\x1f{tags}"


def find_operation(name: str, join: Join) -> Operation | None:
    """Return the operation with a name; None if it does not apply to the join."""
    if name.startswith(LITERAL):
        old, _, new = name[1:].partition(">")
        return Operation(name, len(old), new) if join.surface.endswith(old) else None
    for operation in operations(join.surface, join.left, join.right):
        if operation.name == name:
            return operation
    return None


def choose_operation(entries: Mapping[str, str], join: Join) -> Operation:
    """Return the operation of the finest entry that applies, else the first one of the rules."""
    num_levels = NUM_LEVELS if join.left_tag or join.right_tag else _NUM_UNTAGGED_LEVELS
    for level in reversed(range(num_levels)):
        name = entries.get(context_key(level, join))
        if name is not None and (operation := find_operation(name, join)) is not None:
            return operation
    return operations(join.surface, join.left, join.right)[0]
