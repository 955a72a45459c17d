"""Detect blank lines and lone surrogates."""

from __future__ import annotations

import re
import unicodedata

# White space and control characters.
BLANKS = "".join(
    c for c in map(chr, range(0x3001)) if c.isspace() or unicodedata.category(c) == "Cc"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_blank(text: str) -> bool:
    """Return True if a line has only white space and control characters."""
    return not text.strip(BLANKS)


def has_lone_surrogates(text: str) -> bool:
    """Return True if a text contains a lone surrogate, which UTF-8 cannot encode."""
    return _SURROGATE.search(text) is not None


def replace_lone_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
