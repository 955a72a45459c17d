"""Hangul syllables and the letters they are made of."""

from __future__ import annotations

import unicodedata


def jamo_of(char: str) -> str:
    """The conjoining jamo of a modern Hangul syllable (Unicode NFD); any other character as it is.

    >>> [f"{ord(jamo):X}" for jamo in jamo_of("간")]
    ['1100', '1161', '11AB']
    >>> jamo_of("é")  # NFD would take this apart as well
    'é'
    """
    return unicodedata.normalize("NFD", char) if "가" <= char <= "힣" else char
