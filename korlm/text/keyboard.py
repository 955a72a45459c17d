"""Convert text to keystrokes of the two-set Korean keyboard (KS X 5002).

While a syllable is typed, an input method shows a state that may still change: ``갑`` on the way to
``가버``, ``먹ㅇ`` on the way to ``먹을``. As keystrokes, the former is a prefix of the latter.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from korlm.text.hangul import is_syllable, split_syllable, to_compatibility_jamo

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
    """Return the keystrokes of a text, as compatibility jamo; other characters are unchanged.

    >>> keys_of("값이 ㅘ"), keys_of("닭").startswith(keys_of("달"))
    ('ㄱㅏㅂㅅㅇㅣ ㅗㅏ', True)
    >>> [keys_of("가버").startswith(keys_of(typed)) for typed in ("ㄱ", "가", "갑", "가버", "각")]
    [True, True, True, True, False]
    """
    return "".join(map(_keys_of_char, unicodedata.normalize("NFC", text)))
