"""Tables as text."""

from __future__ import annotations

from korlm.utils.io.tables import aligned


def test_hangul_is_two_columns_wide() -> None:
    rows = aligned([["낱말", "수"], ["ab", "3.5"], ["말뭉치", "1"]])
    assert rows == ["낱말     수", "ab      3.5", "말뭉치    1"]
