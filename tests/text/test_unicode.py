"""Blank lines and lone surrogates."""

import pytest

from korlm.text.unicode import has_lone_surrogates, is_blank, replace_lone_surrogates


@pytest.mark.parametrize("text", ["", " ", "\t\r", "\u3000\xa0", "\0\x1f\x7f\x80", " \x0b\x85 "])
def test_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["가", ".", " a ", "\0가", "\u200b", "\ufeff", "😀"])
def test_not_blank(text: str) -> None:
    assert not is_blank(text)


def test_lone_surrogates() -> None:
    assert has_lone_surrogates("a\ud83d") and not has_lone_surrogates("a😀")
    assert replace_lone_surrogates("\udc00😀가\ud800") == "\ufffd😀가\ufffd"
