"""Tokens, tags and eojeol indices of single lines and batches."""

import random
import unicodedata

import pytest

from korlm.text.hangul import decompose
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import SPACE_SYMBOL
from korlm.tokenizers.columns import analyses_of
from korlm.tokenizers.text_units import EojeolTokenizer, JamoTokenizer, SyllableTokenizer

SIMPLE = [EojeolTokenizer(), SyllableTokenizer(), JamoTokenizer()]
BLANKS = ["", " ", "\t \u3000", "\xa0", "\0\x1f", "\r"]


def test_eojeol() -> None:
    assert EojeolTokenizer().analyze(" 나는\t학교에 \xa0 간다. ") == Analysis(
        ["나는", "학교에", "간다."], ["", "", ""], [0, 1, 2], "ok"
    )


def test_syllable() -> None:
    assert SyllableTokenizer().analyze("나는 a\xa0b") == Analysis(
        ["나", "는", SPACE_SYMBOL, "a", SPACE_SYMBOL, "b"], [""] * 6, [0, 0, 0, 1, 1, 2], "ok"
    )


@pytest.mark.parametrize(
    ("text", "morphs", "eojeol"),
    [
        ("가", "가", [0]),
        ("가  나", "가▁▁나", [0, 0, 1, 1]),
        (" 가 나", "▁가▁나", [0, 0, 0, 1]),
        ("가\t나\u3000 ", "가▁나▁▁", [0, 0, 1, 1, 1]),  # there is no third eojeol
        ("가\u200b나", "가\u200b나", [0, 0, 0]),
        ("😀👍🏽 ㅋ", "😀👍🏽▁ㅋ", [0, 0, 0, 0, 1]),
        ("a▁b c", "a▁b▁c", [0, 0, 0, 0, 1]),
    ],
)
def test_eojeol_indices_of_syllables(text: str, morphs: str, eojeol: list[int]) -> None:
    analysis = SyllableTokenizer().analyze(text)
    assert analysis.morphs == list(morphs)
    assert analysis.eojeol == eojeol


@pytest.mark.parametrize("tokenizer", SIMPLE, ids=lambda t: t.name)
@pytest.mark.parametrize("text", BLANKS)
def test_blank_lines(tokenizer: EojeolTokenizer, text: str) -> None:
    assert tokenizer.analyze(text) == EMPTY == ([], [], [], "empty", 0, 0.0, ())
    assert analyses_of(tokenizer.analyze_batch([text, "가", text])) == [
        EMPTY,
        tokenizer.analyze("가"),
        EMPTY,
    ]
    assert tokenizer.tokenize(text) == []


@pytest.mark.parametrize("tokenizer", SIMPLE, ids=lambda t: t.name)
def test_the_tokens_of_an_eojeol_are_that_eojeol_blanks_aside(tokenizer: EojeolTokenizer) -> None:
    rng = random.Random(7)
    chars = "가나힣 \t\xa0\u3000a▁.😀ㅋ\u0301"
    texts = ["".join(rng.choices(chars, k=n % 30)) for n in range(400)]
    analyses = analyses_of(tokenizer.analyze_batch(texts))
    for text, analysis in zip(texts, analyses, strict=True):
        units = text.split()
        surfaces = {
            "eojeol": units,
            "syllable": list(text),
            "jamo": [part for c in text for part in decompose(c)],
        }[tokenizer.name]
        rebuilt = [""] * len(units)
        for surface, index in zip(surfaces if units else [], analysis.eojeol, strict=True):
            rebuilt[index] += surface.strip()
        assert [unicodedata.normalize("NFC", unit) for unit in rebuilt] == [
            unicodedata.normalize("NFC", unit) for unit in units
        ]


def test_jamo() -> None:
    assert JamoTokenizer().analyze("간 나a ㅋㅋ.") == Analysis(
        [
            "\u1100",
            "\u1161",
            "\u11ab",
            SPACE_SYMBOL,
            "\u1102",
            "\u1161",
            "a",
            SPACE_SYMBOL,
            "ㅋ",
            "ㅋ",
            ".",
        ],
        [""] * 11,
        [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2],
        "ok",
    )


def test_jamo_of_every_syllable() -> None:
    """Compare with the algorithm of the Unicode standard, section 3.12."""
    for number in range(0xD7A3 - 0xAC00 + 1):
        rest, last = divmod(number, 28)
        first, vowel = divmod(rest, 21)
        jamo = [0x1100 + first, 0x1161 + vowel, *([0x11A7 + last] if last else [])]
        assert list(map(ord, decompose(chr(0xAC00 + number)))) == jamo


@pytest.mark.parametrize("char", "ㅋㄳㅏ\u1100\u1161\u11ab\u119eaé漢一😀\ud7a4\uabff▁")
def test_all_else_has_no_jamo(char: str) -> None:
    assert decompose(char) == char
    assert JamoTokenizer().tokenize(char) == [char]


def test_nfc_of_jamo_is_the_text() -> None:
    """Any NFC text is restored, including old Hangul and single jamo, except kinds of blanks."""
    rng = random.Random(11)
    old = "\u1112\u119e\u11ab"  # a syllable without a precomposed code point
    chars = [*"가각힣뷁가a é漢ㅋㅏ.😀\u0301\u1100\u1161\u11ab", old, " ", "\t"]
    for n in range(500):
        text = unicodedata.normalize("NFC", "".join(rng.choices(chars, k=1 + n % 20)))
        tokens = JamoTokenizer().tokenize(text)
        if not text.split():
            continue
        rebuilt = unicodedata.normalize("NFC", "".join(tokens).replace(SPACE_SYMBOL, " "))
        assert rebuilt == text.replace("\t", " ")
        assert not any("가" <= token <= "힣" for token in tokens)
        assert all(len(token) == 1 for token in tokens)
