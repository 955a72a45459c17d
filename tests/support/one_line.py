"""Errors that users see in one line."""

from collections.abc import Callable

import pytest

from korlm.utils.errors import CorpusError, KorlmError


def error_of(
    do: Callable[[], object],
    *words: str,
    kind: type[KorlmError] | tuple[type[KorlmError], ...] = CorpusError,
) -> str:
    """Return the message of the error that a function raises; check that it has some words."""
    with pytest.raises(kind) as caught:
        do()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message
