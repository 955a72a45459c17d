"""Tables as text."""

from __future__ import annotations

from korlm.utils.io.tables import text_table


def test_hangul_is_two_columns_wide() -> None:
    text = text_table([["낱말", "수"], ["ab", "3.5"], ["말뭉치", "1"]])
    assert text == "낱말     수\nab      3.5\n말뭉치    1"


def test_no_line_ends_with_blanks() -> None:
    assert text_table([["a", "b"], ["1", ""]], left=(1,)) == "a  b\n1"
