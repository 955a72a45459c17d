"""Arithmetic of syllables, with Unicode's own normalisation as the oracle."""

from __future__ import annotations

import unicodedata

import pytest

from korlm.text.hangul import (
    LEADS,
    TAILS,
    VOWELS,
    build,
    keys_of,
    split_syllable,
    tail_of,
    to_compatibility_jamo,
)

SYLLABLES = [chr(code) for code in range(0xAC00, 0xD7A4)]


def test_split_and_build_are_inverse_for_every_syllable() -> None:
    assert [build(*split_syllable(char)) for char in SYLLABLES] == SYLLABLES


@pytest.mark.parametrize("char", ["", "A", "ㄱ", "語", "\ud7a4", "한글"])
def test_other_characters_are_not_split(char: str) -> None:
    with pytest.raises(ValueError, match="not a modern Hangul syllable"):
        split_syllable(char)


@pytest.mark.parametrize("letters", ["ㄳㅏ", "ㄱㄱ", "ㄱㅏㄸ"])
def test_letters_in_positions_where_they_cannot_stand(letters: str) -> None:
    with pytest.raises(ValueError, match="no syllable of lead"):
        build(*letters)


def test_letters_are_those_of_nfd() -> None:
    for char in SYLLABLES:
        lead, vowel, tail = split_syllable(char)
        jamo = [chr(0x1100 + LEADS.index(lead)), chr(0x1161 + VOWELS.index(vowel))]
        jamo += [chr(0x11A7 + TAILS.index(tail))] if tail else []
        assert unicodedata.normalize("NFD", char) == "".join(jamo)


@pytest.mark.parametrize("char", ["", "a", "ㅋ", "가나", "\u1100"])
def test_other_characters_have_no_final_consonant(char: str) -> None:
    assert tail_of(char) is None


def test_conjoining_jamo_are_shown_as_letters() -> None:
    shown = to_compatibility_jamo(
        "".join(map(chr, [*range(0x1100, 0x1113), *range(0x1161, 0x1176)]))
    )
    assert shown == LEADS + VOWELS
    assert to_compatibility_jamo("".join(map(chr, range(0x11A8, 0x11C3)))) == "".join(TAILS)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("먹ㅇ", "먹어"), ("먹ㅇ", "먹을"), ("가", "각"), ("갑", "가버"), ("갃", "각사")),
        *(("고", "과"), ("ㅗ", "ㅘ"), ("달", "닭"), ("닭", "달가"), ("", "무엇"), ("a", "ab")),
        *(("ㅋㅋ", "ㅋㅋㅋ"), ("업", "없다"), ("으", "의")),
    ],
)
def test_partially_typed_text(typed: str, meant: str) -> None:
    assert keys_of(meant).startswith(keys_of(typed))


@pytest.mark.parametrize(
    ("typed", "other"),
    [("각", "가버"), ("먹ㅇ", "먹고"), ("까", "가까"), ("과", "고이"), ("A", "a")],
)
def test_another_way(typed: str, other: str) -> None:
    assert not keys_of(other).startswith(keys_of(typed))


def test_every_syllable_has_distinct_two_to_five_keys() -> None:
    syllables = [chr(code) for code in range(ord("가"), ord("힣") + 1)]
    keys = [keys_of(syllable) for syllable in syllables]
    assert {len(row) for row in keys} == {2, 3, 4, 5}
    assert len(set(keys)) == len(syllables) == 19 * 21 * 28
    assert all("ㄱ" <= key <= "ㅣ" for row in keys for key in row)


def test_the_form_does_not_matter() -> None:
    conjoining = "\u1112\u1161\u11ab"
    assert keys_of(conjoining) == keys_of("한") == keys_of("하") + "ㄴ" == keys_of("ㅎㅏㄴ")
    assert keys_of("\u1112") == "ㅎ"
