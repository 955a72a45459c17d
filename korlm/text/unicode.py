"""Unicode normalization, blank lines and lone surrogates."""

from __future__ import annotations

import re
import unicodedata

# White space and control characters: what a blank line is made of.
BLANKS = "".join(
    c for c in map(chr, range(0x3001)) if c.isspace() or unicodedata.category(c) == "Cc"
)


def is_blank(text: str) -> bool:
    """Whether a line holds nothing but white space and control characters."""
    return not text.strip(BLANKS)


_SURROGATE = re.compile("[\ud800-\udfff]")


def has_half_characters(text: str) -> bool:
    """Return whether a text holds half a surrogate pair, which no UTF-8 file can hold."""
    return _SURROGATE.search(text) is not None


def replace_lone_surrogates(text: str) -> str:
    """A line that can cross to Java and back: lone surrogates, which no file holds, cannot."""
    if text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
