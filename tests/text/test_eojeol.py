"""Units between spaces: array operations equal ``str.split`` for any bytes."""

import random

import pytest

from korlm.text.eojeol import count_units, split_units
from korlm.text.unicode import BLANKS, is_blank

ALPHABETS = {
    "plain": "가나a1. \t",
    "marks": "가“”…ㅋ「é😀 ",  # their first bytes are also those of blanks
    "blanks": "가\xa0\u3000\u2003\u1680 ",
    "controls": "가 \0\x1f\x85\x9f",
    "all": "가é😀" + BLANKS,
}


@pytest.mark.parametrize("name", ALPHABETS)
def test_equals_split(name: str) -> None:
    rng = random.Random(1)
    for _ in range(500):
        texts = ["".join(rng.choices(ALPHABETS[name], k=rng.randrange(9))) for _ in range(4)]
        expected = [[] if is_blank(text) else text.split() for text in texts]
        lengths, units = split_units(texts)
        units.validate(full=True)
        assert lengths.tolist() == [len(line) for line in expected], texts
        assert units.to_pylist() == [unit for line in expected for unit in line], texts
        assert count_units(texts).tolist() == lengths.tolist()


@pytest.mark.parametrize("char", BLANKS)
def test_every_blank(char: str) -> None:
    texts = [f"가{char}나", char, f"{char}다", f"라{char}"]
    expected = [text.split() if not is_blank(text) else [] for text in texts]
    lengths, units = split_units(texts)
    assert lengths.tolist() == [len(line) for line in expected]
    assert units.to_pylist() == [unit for line in expected for unit in line]


@pytest.mark.parametrize("texts", [[], [""], ["", ""], [" "]])
def test_nothing(texts: list[str]) -> None:
    lengths, units = split_units(texts)
    assert lengths.tolist() == [0] * len(texts) and units.to_pylist() == []
    assert count_units(texts).tolist() == [0] * len(texts)


def test_a_line_end_parts_units_as_well() -> None:
    lengths, units = split_units(["가\n나", "다"])
    assert (lengths.tolist(), units.to_pylist()) == ([2, 1], ["가", "나", "다"])
