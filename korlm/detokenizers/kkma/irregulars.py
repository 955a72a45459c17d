"""List irregular stems and contracted words.

A stem that ends with ㅂ, ㅅ, ㄷ, ㅎ or 르 changes before a vowel if it is irregular. The tables
have the last syllables of the smaller group: of regular stems in ㅂ and ㅅ, and of irregular stems
in ㄷ and ㅎ.
"""

from __future__ import annotations

# (end of the surface, next morph) -> contracted forms, which are optional.
CONTRACTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("것", "이"): ("게", "거"),
    ("것", "은"): ("건",),
    ("것", "는"): ("건",),
    ("것", "을"): ("걸",),
    ("것", "으로"): ("걸로",),
    ("것", "로"): ("걸로",),
    ("거", "이"): ("게",),
    ("나", "가"): ("내가",),
    ("나", "의"): ("내",),
    ("나", "에게"): ("내게",),
    ("저", "가"): ("제가",),
    ("저", "의"): ("제",),
    ("저", "에게"): ("제게",),
    ("너", "가"): ("네가", "니가"),
    ("너", "의"): ("네",),
    ("너", "에게"): ("네게",),
    ("누구", "가"): ("누가",),
    ("무엇", "이"): ("뭐", "뭐이"),
    ("무엇", "은"): ("뭔",),
    ("무엇", "을"): ("뭘", "무얼"),
    ("무엇", "으로"): ("뭘로",),
    ("하", "지"): ("치",),
    ("하", "게"): ("케",),
    ("하", "도록"): ("토록",),
}

CONTRACTED_MORPHS = {right for _, right in CONTRACTED}

# Short forms of a word before the copula: 것이+ㄴ지 -> 건지, 터이+ㄴ데 -> 텐데.
BEFORE_COPULA = {"것": "거", "거": "거", "터": "테"}

_REGULAR = {
    "ㅂ": "잡입뽑씹접좁집꼽업뵙",
    "ㅅ": "웃벗씻빗솟앗뺏",
}

_IRREGULAR = {
    "ㄷ": "듣걷싣긷컫붇눋묻",
    "ㅎ": "렇떻얗랗갛맣겋옇멓",
}

# Last two syllables of a stem in 르 (우러르 -> 러르) -> name of its operation in ``rules.py``.
_REU = {"따르": "-ㅡ", "치르": "-ㅡ", "들르": "-ㅡ", "러르": "-ㅡ", "푸르": "러"}


def is_regular(end: str, tail: str) -> bool:
    """Return True if a stem keeps its final consonant before vowels.

    Stems in ㄹ return False: whether ㄹ is kept depends on the ending, as ``rules.py`` decides.

    ``end`` has the last one or two syllables of the stem, ``tail`` is its final consonant.

    >>> is_regular("잡", "ㅂ"), is_regular("돕", "ㅂ"), is_regular("깨닫", "ㄷ")
    (True, False, False)
    """
    if tail in _REGULAR:
        return end[-1] in _REGULAR[tail]
    if tail in _IRREGULAR:
        return end[-1] not in _IRREGULAR[tail] and end != "깨닫"
    return tail != "ㄹ"


def reu_class(end: str) -> str:
    """Return the operation of a stem in 르: 르 doubles its ㄹ, -ㅡ drops its ㅡ, 러 inserts 러.

    >>> reu_class("흐르"), reu_class("따르"), reu_class("푸르")
    ('르', '-ㅡ', '러')
    """
    return _REU.get(end, "르")
