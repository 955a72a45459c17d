r"""Read references from icefall's recogs files: lines ``UTT:\tref=[...]`` and ``UTT:\thyp=[...]``.

They have references and one hypothesis per utterance without a score: they are not n-best lists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from korlm.utils.errors import NbestError

_ROW = re.compile(r"(ref|hyp)=(\[.*\])")


def is_recogs(key: str, rest: str) -> bool:
    """Return whether the first word and the rest of a line are those of a recogs file.

    >>> is_recogs("u1:", "ref=['나는', '간다']"), is_recogs("u1", "나는 간다")
    (True, False)
    """
    return key.endswith(":") and _ROW.fullmatch(rest) is not None


def icefall_references(rows: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """Yield the references of a recogs file; rows of other files are not changed.

    Raises:
        NbestError: ref= is not followed by a list of words.
    """
    for where, key, rest in rows:
        match = _ROW.fullmatch(rest) if key.endswith(":") else None
        if match is None:
            yield where, key, rest
        elif match[1] == "ref":
            try:
                words = ast.literal_eval(match[2])
                yield where, key[:-1], " ".join(words)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                raise NbestError(f"{where}: ref= must be followed by a list of words") from None
