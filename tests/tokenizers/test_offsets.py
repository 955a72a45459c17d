"""Eojeol indices of characters, spans of tokens, characters in no token."""

import random

import pytest

from korlm.tokenizers.analysis import Analysis, Span
from korlm.tokenizers.offsets import (
    analysis_of,
    eojeol_of,
    eojeol_of_visible,
    find_spans,
    status_and_dropped,
)


def test_eojeol_of_characters_and_blanks() -> None:
    rng = random.Random(3)
    for n in range(300):
        text = "".join(rng.choices("가나😀 \t\u3000", k=1 + n % 20))
        if not text.split():
            continue
        owner, units = eojeol_of(text), text.split()
        assert len(owner) == len(text) and owner == sorted(owner)
        for index, unit in enumerate(units):
            own = [c for c, at in zip(text, owner, strict=True) if at == index]
            assert "".join(own).strip() == unit
        letters = [at for c, at in zip(text, owner, strict=True) if not c.isspace()]
        assert eojeol_of_visible(text) == letters


def test_eojeol_of_visible() -> None:
    assert eojeol_of_visible(" 가나 다\xa0라 ") == [0, 0, 1, 2]
    assert eojeol_of_visible("  ") == []


def test_find_spans() -> None:
    assert find_spans("가 나가 다", ["가", "나", "가", "다"]) == [(0, 1), (2, 3), (3, 4), (5, 6)]
    # A surface that is not in the line has an empty span.
    assert find_spans("가 나", ["가", "라", "나"]) == [(0, 1), (1, 1), (2, 3)]


def test_characters_in_no_token_are_lost() -> None:
    results = analysis_of(
        "가 나다\x07\u200b 라", ["가", "라"], ["A", "B"], [Span(0, 1), Span(7, 8)]
    )
    assert results == Analysis(["가", "라"], ["A", "B"], [0, 2], "lost: 2 characters", 4)
    assert analysis_of("가\x07", ["가"], [""], [Span(0, 1)])[3:5] == ("ok", 1)
    assert analysis_of("가 ", ["x"], [""], [Span(2, 2)])[2] == [0]


@pytest.mark.parametrize(
    ("lost", "expected"), [("", ("ok", 0)), ("\x00\u200b", ("ok", 2)), ("가\x00", ("lost: 1", 2))]
)
def test_control_characters_are_no_loss(lost: str, expected: tuple[str, int]) -> None:
    status, count = status_and_dropped(lost)
    assert (status.removesuffix(" characters"), count) == expected
