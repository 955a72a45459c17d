"""Texts as keystrokes: what is typed is a prefix of the text at every moment."""

import pytest

from korlm.text.keyboard import keys_of


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
