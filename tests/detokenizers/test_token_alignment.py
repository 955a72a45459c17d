"""Tokens and the characters they were made from."""

from __future__ import annotations

import pytest

from korlm.corpus.normalization import normalize
from korlm.detokenizers.alignment import eojeol_spans, token_spans
from korlm.tokenizers.text_units import EojeolTokenizer, JamoTokenizer, SyllableTokenizer


def surfaces(text: str, tokens: str, eojeol: list[int] | None = None) -> list[str]:
    """Return the part of the text of each token; tokens of one eojeol by default."""
    morphs = tokens.split("+")
    spans = token_spans(text, morphs, eojeol or [0] * len(morphs))
    return [text[begin:end] for begin, end in spans]


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ("학교에서는", "학교+에서+는", ["학교", "에서", "는"]),
        ("갔다", "가+았+다", ["갔", "갔", "다"]),
        ("했다", "하+었+다", ["했", "했", "다"]),
        ("간다", "가+ㄴ다", ["간", "간다"]),
        ("도와", "돕+아", ["도", "와"]),
        ("추운", "춥+ㄴ", ["추", "운"]),
        ("나다", "나+이+다", ["나", "나", "다"]),
        ("가", "가+아", ["가", "가"]),
        ("보냈습니다.", "보내+었+습니다+.", ["보냈", "냈", "습니다", "."]),
        ("３개①", "3+개+1", ["３", "개", "①"]),
    ],
)
def test_morphemes(text: str, tokens: str, expected: list[str]) -> None:
    assert surfaces(text, tokens) == expected


def test_eojeols_are_aligned_one_by_one() -> None:
    text = " 가 간다  가"
    assert surfaces(text, "가+가+ㄴ다+가", [0, 1, 1, 2]) == ["가", "간", "간다", "가"]
    assert surfaces("a\u200b \u200b 갔", "a+가+았", [0, 1, 1]) == ["a", "갔", "갔"]
    assert eojeol_spans("a \u200b b") == [(0, 1), (4, 5)]


def test_decomposed_text() -> None:
    """Offsets are those of the text as read, here of three jamo per syllable."""
    text = "\u1112\u1161\u11ab\u1100\u1173\u11af a"
    analysis = SyllableTokenizer().analyze(normalize(text))
    assert analysis.morphs == ["한", "글", "▁", "a"]
    assert token_spans(text, analysis.morphs, analysis.eojeol) == [(0, 3), (3, 6), (6, 6), (7, 8)]


@pytest.mark.parametrize("tokenizer", [SyllableTokenizer(), JamoTokenizer(), EojeolTokenizer()])
def test_every_character_is_in_a_token(
    tokenizer: SyllableTokenizer | JamoTokenizer | EojeolTokenizer,
) -> None:
    text = "  안녕, ㅋㅋ ▁값 3.5%\t밖에  ab "
    analysis = tokenizer.analyze(text)
    spans = token_spans(text, analysis.morphs, analysis.eojeol)
    covered = {index for begin, end in spans for index in range(begin, end)}
    missing = [text[index] for index in range(len(text)) if index not in covered]
    assert set(missing) <= {" ", "\t", "▁"}
    assert spans == sorted(spans)


def test_a_tokenizer_that_splits_otherwise() -> None:
    """Eojeol indices that do not fit the text: the tokens are aligned with all of it."""
    assert token_spans("가 갔", ["가", "가", "았"], [0, 1, 2]) == [(0, 1), (2, 3), (2, 3)]


def test_long_words() -> None:
    text = "가" * 3000 + "갔다"
    tokens = [*["가"] * 3001, "았", "다"]
    assert token_spans(text, tokens, [0] * len(tokens))[-3:] == [
        (3000, 3001),
        (3000, 3001),
        (3001, 3002),
    ]
