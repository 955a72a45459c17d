"""Split modern Hangul syllables into letters (jamo), build them from letters, and find their keys.

A syllable is U+AC00 + (lead * 21 + vowel) * 28 + tail, where tail 0 means none (The Unicode
Standard, section 3.12). Unicode has two sets of jamo. Here, a letter is a compatibility jamo (ㄱ,
U+3131 to U+3163), as Kkma and keyboards use them. Only ``decompose``, which returns conjoining jamo
(U+1100 to U+11FF), and ``to_compatibility_jamo``, which replaces them, use the other set.

Keystrokes are those of the two-set keyboard (KS X 5002). While a syllable is typed, an input
method shows a state that may still change: ``갑`` on the way to ``가버``, ``먹ㅇ`` on the way to
``먹을``. As keystrokes, the former is a prefix of the latter.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import NamedTuple

LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
TAILS = ["", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"]
_LEAD = {letter: number for number, letter in enumerate(LEADS)}
_VOWEL = {letter: number for number, letter in enumerate(VOWELS)}
_TAIL = {letter: number for number, letter in enumerate(TAILS)}
# Code point of a conjoining jamo -> compatibility jamo; the first tail is U+11A8, since 0 is none.
_COMPATIBILITY = {
    **{0x1100 + number: letter for number, letter in enumerate(LEADS)},
    **{0x1161 + number: letter for number, letter in enumerate(VOWELS)},
    **{0x11A7 + number: letter for number, letter in enumerate(TAILS) if letter},
}


class Syllable(NamedTuple):
    """Letters of a syllable; ``tail`` is "" if there is no final consonant."""

    lead: str
    vowel: str
    tail: str


def is_syllable(char: str) -> bool:
    """Return True if a string is one modern Hangul syllable.

    >>> is_syllable("한"), is_syllable("ㅎ"), is_syllable("")
    (True, False, False)
    """
    return len(char) == 1 and "가" <= char <= "힣"


def is_compatibility_jamo(char: str) -> bool:
    """Return True if a string is one compatibility jamo, such as ㅋ or ㅠ."""
    return len(char) == 1 and "ㄱ" <= char <= "ㅣ"


def split_syllable(char: str) -> Syllable:
    """Return the letters of a syllable; raise ValueError for any other string.

    >>> split_syllable("값")
    Syllable(lead='ㄱ', vowel='ㅏ', tail='ㅄ')
    """
    if not is_syllable(char):
        raise ValueError(f"{char!r} is not a modern Hangul syllable")
    rest, tail = divmod(ord(char) - 0xAC00, 28)
    lead, vowel = divmod(rest, 21)
    return Syllable(LEADS[lead], VOWELS[vowel], TAILS[tail])


def build(lead: str, vowel: str, tail: str = "") -> str:
    """Return the syllable of three letters; raise ValueError if one cannot stand in its position.

    >>> build("ㄷ", "ㅙ"), build("ㅇ", "ㅏ", "ㄻ")
    ('돼', '앎')
    """
    try:
        return chr(0xAC00 + (_LEAD[lead] * 21 + _VOWEL[vowel]) * 28 + _TAIL[tail])
    except KeyError as error:
        raise ValueError(
            f"there is no syllable of lead {lead!r}, vowel {vowel!r} and tail {tail!r}"
        ) from error


def tail_of(char: str) -> str | None:
    """Return the tail of a syllable, "" if it has none; None if the string is not a syllable.

    >>> tail_of("말"), tail_of("마"), tail_of("m")
    ('ㄹ', '', None)
    """
    return split_syllable(char).tail if is_syllable(char) else None


def decompose(char: str) -> str:
    """Return the conjoining jamo of a syllable (Unicode NFD), or any other character unchanged.

    >>> [f"{ord(jamo):X}" for jamo in decompose("간")]
    ['1100', '1161', '11AB']
    >>> decompose("é")  # NFD would decompose this as well
    'é'
    """
    return unicodedata.normalize("NFD", char) if is_syllable(char) else char


def to_compatibility_jamo(text: str) -> str:
    """Replace modern conjoining jamo, which many fonts do not show alone, by letters.

    Text in NFD must be normalized to NFC first, or its syllables become letters.

    >>> to_compatibility_jamo("가" + chr(0x1100))
    '가ㄱ'
    """
    return text.translate(_COMPATIBILITY)


# Letter that takes two keys -> the letters of these keys. ㄲ, ㅒ and other letters typed with shift
# count as one key.
_COMPOUND = {
    **{"ㅘ": "ㅗㅏ", "ㅙ": "ㅗㅐ", "ㅚ": "ㅗㅣ", "ㅝ": "ㅜㅓ", "ㅞ": "ㅜㅔ", "ㅟ": "ㅜㅣ"},
    **{"ㅢ": "ㅡㅣ", "ㄳ": "ㄱㅅ", "ㄵ": "ㄴㅈ", "ㄶ": "ㄴㅎ", "ㄺ": "ㄹㄱ", "ㄻ": "ㄹㅁ"},
    **{"ㄼ": "ㄹㅂ", "ㄽ": "ㄹㅅ", "ㄾ": "ㄹㅌ", "ㄿ": "ㄹㅍ", "ㅀ": "ㄹㅎ", "ㅄ": "ㅂㅅ"},
}


@lru_cache(maxsize=1 << 14)
def _keys_of_char(char: str) -> str:
    letters = split_syllable(char) if is_syllable(char) else to_compatibility_jamo(char)
    return "".join(_COMPOUND.get(letter, letter) for letter in letters)


@lru_cache(maxsize=1 << 17)
def keys_of(text: str) -> str:
    """Return the keystrokes of a text on the two-set keyboard, as compatibility jamo.

    Other characters are their own keystroke, in NFC.

    >>> keys_of("값이 ㅘ"), keys_of("닭").startswith(keys_of("달"))
    ('ㄱㅏㅂㅅㅇㅣ ㅗㅏ', True)
    >>> [keys_of("가버").startswith(keys_of(typed)) for typed in ("ㄱ", "가", "갑", "가버", "각")]
    [True, True, True, True, False]
    """
    return "".join(map(_keys_of_char, unicodedata.normalize("NFC", text)))
