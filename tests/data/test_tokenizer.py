"""Tokens, tags and eojeols of lines, one by one and together."""

import random

import pytest

from korlm.config import KkmaConfig, TokenizerConfig
from korlm.data.columns import EMPTY, Analysis, analyses_of
from korlm.data.tokenizer import (
    BLANK,
    EojeolTokenizer,
    SyllableTokenizer,
    build_simple,
    tokenizer_version,
)

SIMPLE = [EojeolTokenizer(), SyllableTokenizer()]
BLANKS = ["", " ", "\t \u3000", "\xa0", "\0\x1f", "\r"]


def test_eojeol() -> None:
    assert EojeolTokenizer().analyze(" 나는\t학교에 \xa0 간다. ") == Analysis(
        ["나는", "학교에", "간다."], ["", "", ""], [0, 1, 2], "ok"
    )


def test_syllable() -> None:
    assert SyllableTokenizer().analyze("나는 a\xa0b") == Analysis(
        ["나", "는", BLANK, "a", BLANK, "b"], [""] * 6, [0, 0, 0, 1, 1, 2], "ok"
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
def test_syllables_know_their_eojeol(text: str, morphs: str, eojeol: list[int]) -> None:
    analysis = SyllableTokenizer().analyze(text)
    assert analysis.morphs == list(morphs)
    assert analysis.eojeol == eojeol


@pytest.mark.parametrize("tokenizer", SIMPLE, ids=lambda t: t.name)
@pytest.mark.parametrize("text", BLANKS)
def test_blank_lines(tokenizer: EojeolTokenizer, text: str) -> None:
    assert tokenizer.analyze(text) == EMPTY == ([], [], [], "empty", 0, 0.0)
    assert analyses_of(tokenizer.analyze_batch([text, "가", text])) == [
        EMPTY,
        tokenizer.analyze("가"),
        EMPTY,
    ]
    assert tokenizer.tokenize(text) == []


@pytest.mark.parametrize("tokenizer", SIMPLE, ids=lambda t: t.name)
def test_properties_of_simple_tokenizers(tokenizer: EojeolTokenizer) -> None:
    dice = random.Random(7)
    texts = ["".join(dice.choices("가나 \t\xa0\u3000a▁.😀\u0301", k=n % 30)) for n in range(400)]
    analyses = analyses_of(tokenizer.analyze_batch(texts))
    assert analyses == [tokenizer.analyze(text) for text in texts]
    for text, (morphs, tags, eojeol, status, *_) in zip(texts, analyses, strict=True):
        assert len(morphs) == len(tags) == len(eojeol)
        assert morphs == tokenizer.tokenize(text)
        assert (status == "empty") == (not morphs) == (not text.split())
        assert eojeol == sorted(eojeol)
        # The tokens of an eojeol, blanks aside, are that eojeol.
        units = text.split()
        surfaces = text if tokenizer.name == "syllable" else units
        rebuilt = [""] * len(units)
        for surface, index in zip(surfaces if units else [], eojeol, strict=True):
            rebuilt[index] += surface.strip()
        assert rebuilt == units


def test_text_can_be_rebuilt_but_for_blanks() -> None:
    text = "나는 \t학교에\xa0간다. "
    assert " ".join(EojeolTokenizer().tokenize(text)) == "나는 학교에 간다."
    assert "".join(SyllableTokenizer().tokenize(text)).replace(BLANK, " ") == "나는  학교에 간다. "


def test_simple_tokenizers_by_name() -> None:
    for name, kind in (("eojeol", EojeolTokenizer), ("syllable", SyllableTokenizer)):
        made = build_simple(TokenizerConfig(name=name))
        assert isinstance(made, kind) and made.name == name
        assert tokenizer_version(TokenizerConfig(name=name)) == made.version
    assert build_simple(KkmaConfig(name="kkma")) is None
