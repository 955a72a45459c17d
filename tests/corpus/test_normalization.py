"""Normalization of lines: NFC, without invisible characters."""

import unicodedata

import pytest

from korlm.config import UnicodeForm
from korlm.corpus.normalization import INVISIBLE, normalize, normalize_all

HIDDEN = "\u00ad\u200b\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufe0f\ufeff\U000e0100"


@pytest.mark.parametrize("char", HIDDEN)
@pytest.mark.parametrize("unicode", [UnicodeForm.nfc, UnicodeForm.nfkc])
def test_invisible_characters(char: str, unicode: UnicodeForm) -> None:
    text = f"{char}가{char}{char} 나{char}"
    assert normalize(text, unicode) == "가 나"
    assert normalize_all([text, char, "다"], unicode) == ["가 나", "", "다"]
    assert normalize(text, UnicodeForm.none) == text
    assert normalize_all([text], UnicodeForm.none) == [text]


def test_visible_and_joining_characters_are_kept() -> None:
    text = "👨\u200d👩 \u3000가\xa0나\t\u1112\u119e\u11ab ㅋㅋ ①Ａ"
    assert normalize(text) == text


def test_only_characters_without_a_shape_are_invisible() -> None:
    results = [chr(code) for code in range(0x110000) if INVISIBLE.match(chr(code))]
    assert {unicodedata.category(char) for char in results} <= {"Cf", "Mn", "Cn"}
    assert not any(char.isspace() for char in results)


def test_forms() -> None:
    assert normalize("\u1112\u200b\u1161\u11ab") == "한"  # a hidden character kept them apart
    assert normalize("Ａ①ﬁ㎞", UnicodeForm.nfkc) == "A1fikm"
    assert normalize_all(["Ａ"], UnicodeForm.nfkc) == ["A"]
    assert normalize("Ａ①ﬁ㎞") == "Ａ①ﬁ㎞"
    text = "\u1112\u1161\u11ab"
    assert normalize(text, UnicodeForm.none) == text and normalize(text) == "한"


def test_normalize_all() -> None:
    composed = ["한글", "", "e"]
    assert normalize_all(composed) is composed
    # A combining character at the beginning of a line does not join the line before it.
    assert normalize_all(["e", "\u0301", "e\u0301"]) == ["e", "\u0301", "é"]
