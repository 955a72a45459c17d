"""Words that rules of spelling do not foresee: which stems are regular, and which words shrink.

ㅂ, ㅅ, ㄷ, ㅎ or 르 at the end of a stem changes before a vowel in some words and not in others.
The sets hold the fewer of both, by their last characters.
"""

from __future__ import annotations

# End of the surface, morph that comes -> what both become; all of them may stay as they are.
SHRUNK: dict[tuple[str, str], tuple[str, ...]] = {
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


RIGHTS = {right for _, right in SHRUNK}


# Before the copula: 것이+ㄴ지 -> 건지, 터이+ㄴ데 -> 텐데.
BEFORE_COPULA = {"것": "거", "거": "거", "터": "테"}


_REGULAR = {
    "ㅂ": "잡입뽑씹접좁집꼽업뵙",
    "ㅅ": "웃벗씻빗솟앗뺏",
}


_IRREGULAR = {
    "ㄷ": "듣걷싣긷컫붇눋묻",
    "ㅎ": "렇떻얗랗갛맣겋옇멓",
}


_RU = {"따르": "-ㅡ", "치르": "-ㅡ", "들르": "-ㅡ", "러르": "-ㅡ", "푸르": "러"}


def is_regular(end: str, tail: str) -> bool:
    """Whether a stem keeps its last consonant before vowels.

    >>> is_regular("잡", "ㅂ"), is_regular("돕", "ㅂ"), is_regular("깨닫", "ㄷ")
    (True, False, False)
    """
    if tail in _REGULAR:
        return end[-1] in _REGULAR[tail]
    if tail in _IRREGULAR:
        return end[-1] not in _IRREGULAR[tail] and end != "깨닫"
    return tail != "ㄹ"


def class_of_reu(end: str) -> str:
    """What the stem in 르 does before a vowel: it doubles its ㄹ, loses its ㅡ, or takes 러.

    >>> class_of_reu("흐르"), class_of_reu("따르"), class_of_reu("푸르")
    ('르', '-ㅡ', '러')
    """
    return _RU.get(end, "르")
