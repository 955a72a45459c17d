"""Text as the keys that write it on the two-set keyboard (KS X 5002), shift left aside.

While a syllable is typed, an input method shows what may still change: ``갑`` is on its way to
``가버``, ``먹ㅇ`` to ``먹을``. As rows of keys the one is a prefix of the other, whatever syllables
they form.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_LEADS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"


_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"


_TAILS = ["", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"]


# Letters of two keys.
_PAIRS = {
    **{
        "ㅘ": "ㅗㅏ",
        "ㅙ": "ㅗㅐ",
        "ㅚ": "ㅗㅣ",
        "ㅝ": "ㅜㅓ",
        "ㅞ": "ㅜㅔ",
        "ㅟ": "ㅜㅣ",
        "ㅢ": "ㅡㅣ",
    },
    **{"ㄳ": "ㄱㅅ", "ㄵ": "ㄴㅈ", "ㄶ": "ㄴㅎ", "ㄺ": "ㄹㄱ", "ㄻ": "ㄹㅁ", "ㄼ": "ㄹㅂ"},
    **{"ㄽ": "ㄹㅅ", "ㄾ": "ㄹㅌ", "ㄿ": "ㄹㅍ", "ㅀ": "ㄹㅎ", "ㅄ": "ㅂㅅ"},
}


# Conjoining jamo, of which NFC makes syllables, stand alone in unfinished ones.
_LETTERS = {
    **{chr(0x1100 + number): letter for number, letter in enumerate(_LEADS)},
    **{chr(0x1161 + number): letter for number, letter in enumerate(_VOWELS)},
    **{chr(0x11A7 + number): letter for number, letter in enumerate(_TAILS) if letter},
}


@lru_cache(maxsize=1 << 14)
def _keys_of_char(char: str) -> str:
    if "가" <= char <= "힣":
        rest, tail = divmod(ord(char) - ord("가"), len(_TAILS))
        lead, vowel = divmod(rest, len(_VOWELS))
        letters = [_LEADS[lead], _VOWELS[vowel], _TAILS[tail]]
        return "".join(_PAIRS.get(letter, letter) for letter in letters)
    letter: str = _LETTERS.get(char, char)
    return _PAIRS.get(letter, letter)


@lru_cache(maxsize=1 << 17)
def keys_of(text: str) -> str:
    """The keys that write a text, as compatibility jamo; other characters stand for themselves.

    >>> keys_of("값이 ㅘ"), keys_of("닭").startswith(keys_of("달"))
    ('ㄱㅏㅂㅅㅇㅣ ㅗㅏ', True)
    >>> [keys_of("가버").startswith(keys_of(typed)) for typed in ("ㄱ", "가", "갑", "가버", "각")]
    [True, True, True, True, False]
    """
    return "".join(map(_keys_of_char, unicodedata.normalize("NFC", text)))
