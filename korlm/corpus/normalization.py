"""Normalize the Unicode form of lines, for tokenizers and for counts of characters.

Invisible characters are removed. They come from the web, word processors and concatenated files,
and would become tokens, or split a word in two. Token files store the text as it was read.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from korlm.config import UnicodeForm
from korlm.text.unicode import BLANKS, is_blank


def has_text(text: str) -> bool:
    r"""Return True if a line has any character that is neither blank nor invisible.

    >>> has_text("\u200b \ufeff"), has_text("가")
    (False, True)
    """
    text = text.strip(BLANKS)
    if not text or not INVISIBLE.match(text):  # true of almost all lines
        return bool(text)
    return not is_blank(INVISIBLE.sub("", text))


# Joiners (U+200C, U+200D) are kept: emoji and other scripts need them.
INVISIBLE = re.compile(
    "["
    "\u00ad"  # soft hyphen
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # direction of writing
    "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"  # variation selectors
    "\u200b\u2060-\u2064\ufeff"  # zero width: space, word joiner, operators, byte-order mark
    "]"
)


def normalize(text: str, unicode: UnicodeForm = UnicodeForm.nfc) -> str:
    r"""Return a line in the form in which tokenizers get it.

    >>> len(normalize("\u1112\u1161\u11ab"))  # 한 as three jamo, as macOS writes file contents
    1
    >>> normalize("\ufeff나\u200b는"), normalize("Ａ①", UnicodeForm.nfkc)
    ('나는', 'A1')
    """
    if unicode is UnicodeForm.none:
        return text
    form = _form(unicode)
    text = INVISIBLE.sub("", text)
    return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)


def normalize_all(texts: list[str], unicode: UnicodeForm = UnicodeForm.nfc) -> list[str]:
    """Normalize lines; return the same list if nothing changes, as is usual."""
    if unicode is UnicodeForm.none:
        return texts
    # Characters do not compose across line ends.
    joined = "\n".join(texts)
    if joined.isascii() or (
        unicodedata.is_normalized(_form(unicode), joined) and not INVISIBLE.search(joined)
    ):
        return texts
    return [normalize(text, unicode) for text in texts]


def _form(unicode: UnicodeForm) -> Literal["NFC", "NFKC"]:
    return "NFC" if unicode is UnicodeForm.nfc else "NFKC"
