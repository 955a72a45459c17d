"""Hangul syllables and the jamo they are composed of, as text and as numbers.

The Unicode Standard, section 3.12: syllable = 0xAC00 + (lead * 21 + vowel) * 28 + tail, where the
tail 0 is none. Letters here are compatibility jamo (ㄱ, U+3131), as Kkma and keyboards write them.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple


def decompose(char: str) -> str:
    """The conjoining jamo of a modern Hangul syllable (Unicode NFD); any other character as it is.

    >>> [f"{ord(jamo):X}" for jamo in decompose("간")]
    ['1100', '1161', '11AB']
    >>> decompose("é")  # NFD would take this apart as well
    'é'
    """
    return unicodedata.normalize("NFD", char) if "가" <= char <= "힣" else char


LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"


VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"


TAILS = ["", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"]


_LEAD = {letter: number for number, letter in enumerate(LEADS)}


_VOWEL = {letter: number for number, letter in enumerate(VOWELS)}


_TAIL = {letter: number for number, letter in enumerate(TAILS)}


class Syllable(NamedTuple):
    """The letters of a syllable; ``tail`` is empty where there is none."""

    lead: str
    vowel: str
    tail: str


def is_syllable(char: str) -> bool:
    """Whether a string is one modern Hangul syllable.

    >>> is_syllable("한"), is_syllable("ㅎ"), is_syllable("")
    (True, False, False)
    """
    return len(char) == 1 and "가" <= char <= "힣"


def is_letter(char: str) -> bool:
    """Whether a string is one letter by itself, as ㅋ or ㅠ."""
    return len(char) == 1 and "ㄱ" <= char <= "ㅣ"


def split(char: str) -> Syllable:
    """The letters of a syllable.

    >>> split("값")
    Syllable(lead='ㄱ', vowel='ㅏ', tail='ㅄ')
    """
    rest, tail = divmod(ord(char) - 0xAC00, 28)
    lead, vowel = divmod(rest, 21)
    return Syllable(LEADS[lead], VOWELS[vowel], TAILS[tail])


def build(lead: str, vowel: str, tail: str = "") -> str:
    """The syllable of these letters.

    >>> build("ㄷ", "ㅙ"), build("ㅇ", "ㅏ", "ㄻ")
    ('돼', '앎')
    """
    return chr(0xAC00 + (_LEAD[lead] * 21 + _VOWEL[vowel]) * 28 + _TAIL[tail])


def tail_of(char: str) -> str | None:
    """The tail of a syllable, empty if it is open; None if the character is no syllable.

    >>> tail_of("말"), tail_of("마"), tail_of("m")
    ('ㄹ', '', None)
    """
    return TAILS[(ord(char) - 0xAC00) % 28] if is_syllable(char) else None


# Conjoining jamo (U+1100..), of which NFC builds syllables, and the letters that show them alone.
_SHOWN = {
    **{0x1100 + number: letter for number, letter in enumerate(LEADS)},
    **{0x1161 + number: letter for number, letter in enumerate(VOWELS)},
    **{0x11A7 + number: letter for number, letter in enumerate(TAILS) if letter},
}


def show_letters(text: str) -> str:
    """Conjoining jamo that form no syllable, as letters that can be read.

    >>> show_letters("가" + chr(0x1100))
    '가ㄱ'
    """
    return text.translate(_SHOWN)
