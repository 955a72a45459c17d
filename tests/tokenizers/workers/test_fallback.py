"""A line that cannot be read whole: nothing is lost, few attempts, neighbours are spared."""

import math
import random
import sys
from collections.abc import Sequence

import pytest

from korlm.tokenizers.analysis import Analysis, Span
from korlm.tokenizers.workers.fallback import UNKNOWN_TAG, analyze_with_fallback

# All of these part eojeols; several are no blanks to those who think of ASCII.
WHITE = [" ", "  ", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\u3000 \xa0"]
FAILED = "no"


class Reader:
    """An analyzer of the parts of one line, one token for each character; some it cannot read.

    The tag of a token is the whole part that it was read with.

    Args:
        text: the line.
        guilty: characters that fail a part.
        longest: characters that a part may have.
    """

    def __init__(self, text: str, guilty: str = "!", longest: int = 10**9) -> None:
        self.text = text
        self.guilty = guilty
        self.longest = longest
        self.asked: list[Span] = []

    def can_read(self, part: str) -> bool:
        return len(part) <= self.longest and not set(part) & set(self.guilty)

    def __call__(self, span: Span) -> Analysis | str:
        self.asked.append(span)
        part = self.part(span)
        assert part == part.strip() != ""
        if not self.can_read(part):
            return FAILED
        morphs = [char for unit in part.split() for char in unit]
        eojeol = [index for index, unit in enumerate(part.split()) for _ in unit]
        return Analysis(morphs, [part] * len(morphs), eojeol, "ok", len(part), 0.5)

    def part(self, span: Span) -> str:
        return self.text[span.begin : span.end]

    @property
    def parts(self) -> list[str]:
        return [self.part(span) for span in self.asked]

    def read(self, cut: bool) -> Analysis:
        return analyze_with_fallback(self.text, "too slow", self, cut)


def eojeols(analysis: Analysis) -> dict[int, list[tuple[str, str]]]:
    """Tokens and tags by eojeol."""
    found: dict[int, list[tuple[str, str]]] = {}
    for token, tag, index in zip(analysis.morphs, analysis.tags, analysis.eojeol, strict=True):
        found.setdefault(index, []).append((token, tag))
    return found


def random_line(dice: random.Random) -> str:
    """A line that is not blank, of Hangul, guilty characters and odd white space."""
    units = [
        "".join(dice.choices("가나다!", [9, 9, 9, 1], k=dice.choice((1, 2, 5, 9, 21))))
        for _ in range(dice.randrange(1, 12))
    ]
    edges = [dice.choice(["", *WHITE]) for _ in range(2)]
    inner = [dice.choice(WHITE) for _ in units[1:]]
    return edges[0] + "".join(a + b for a, b in zip(units, [*inner, ""], strict=True)) + edges[1]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("longest", [0, 1, 3, 8, 10, 30, 10**9])
def test_every_character_is_accounted_for_once(cut: bool, longest: int) -> None:
    dice = random.Random(longest)
    lines = [random_line(dice) for _ in range(150)]
    readers = [Reader(line, longest=longest) for line in lines]
    readers = [reader for reader in readers if not reader.can_read(reader.text.strip())]
    assert len(readers) > 50
    for reader in readers:
        found = reader.read(cut)
        tokens = zip(found.morphs, found.tags, found.eojeol, strict=True)
        left = {(token, index) for token, tag, index in tokens if tag == UNKNOWN_TAG}
        units = list(enumerate(reader.text.split()))
        written = zip(found.eojeol, found.morphs, strict=True)
        assert [(index, char) for index, token in written for char in token] == [
            (index, char) for index, unit in units for char in unit
        ]
        suspects = [(c, index) for index, unit in units for c in (unit if cut else [unit])]
        assert left == {(token, index) for token, index in suspects if not reader.can_read(token)}
        assert found.status == ("fallback: too slow" if left else "cut: too slow")

        succeeded = [part for part in reader.parts if reader.can_read(part)]
        assert set(found.tags) - {UNKNOWN_TAG} == set(succeeded)
        assert found.seconds == 0.5 * len(succeeded)
        assert found.dropped == sum(map(len, succeeded))

        # Nothing is tried twice, and the line as a whole not even once.
        assert len(set(reader.asked)) == len(reader.asked)
        assert reader.text.strip() not in reader.parts


def test_white_space_is_what_parts_a_string() -> None:
    text = "".join(f"가{chr(code)}" for code in range(0x3100) if chr(code) != "!") + " !"
    found = Reader(text).read(cut=False)
    assert list(zip(found.eojeol, found.morphs, strict=True)) == [
        (index, char) for index, unit in enumerate(text.split()) for char in unit
    ]
    assert len(text.split()) == 1 + sum(map(str.isspace, text))


@pytest.mark.parametrize("white", WHITE)
@pytest.mark.parametrize("edge", ["", " ", "\u3000", "\x1c\x85"])
def test_odd_white_space(white: str, edge: str) -> None:
    text = f"{edge}가{white}나다{white}라마바!사{white}아{white}자{edge}"
    reader = Reader(text)
    found = reader.read(cut=False)
    before, after = f"가{white}나다", f"아{white}자"
    assert reader.parts == [before, "라마바!사", after]
    assert found == Analysis(
        [*"가나다", "라마바!사", *"아자"],
        [*[before] * 3, UNKNOWN_TAG, *[after] * 2],
        [0, 1, 1, 2, 3, 4],
        "fallback: too slow",
        len(before + after),
        1.0,
    )


def test_only_the_guilty_suffer() -> None:
    reader = Reader("가 나 다! 라 마마마 바 !")
    # Around the longest; neither side of it can be read, so each is parted in halves.
    assert eojeols(reader.read(cut=False)) == {
        0: [("가", "가 나")],
        1: [("나", "가 나")],
        2: [("다!", UNKNOWN_TAG)],
        3: [("라", "라")],
        4: [("마", "마마마")] * 3,
        5: [("바", "바")],
        6: [("!", UNKNOWN_TAG)],
    }
    left, right = ["가 나 다! 라", "가 나", "다! 라", "다!", "라"], ["바 !", "바", "!"]
    assert reader.parts == [*left, "마마마", *right]


def test_a_line_too_long_as_a_whole_loses_nothing() -> None:
    reader = Reader("가나 다라마 바사", longest=7)
    assert reader.read(cut=False) == Analysis(
        [*"가나다라마바사"],
        [*["가나"] * 2, *["다라마"] * 3, *["바사"] * 2],
        [0, 0, 1, 1, 1, 2, 2],
        "cut: too slow",
        7,
        1.5,
    )


# One eojeol


def test_one_eojeol_stays_as_it_is_without_another_attempt() -> None:
    reader = Reader("\u3000 가나!다 ")
    expected = Analysis(["가나!다"], [UNKNOWN_TAG], [0], "fallback: too slow", 0, 0.0)
    assert reader.read(cut=False) == expected
    assert reader.asked == []


def test_one_character_is_not_tried_again() -> None:
    reader = Reader(" ! ")
    assert reader.read(cut=True) == Analysis(["!"], [UNKNOWN_TAG], [0], "fallback: too slow")
    assert reader.asked == []


def pieces(text: str, guilty: str = "!", longest: int = 10**9) -> list[str]:
    reader = Reader(text, guilty, longest)
    reader.read(cut=True)
    return reader.parts


def test_pieces_of_eight_then_halves_then_characters() -> None:
    assert pieces("가나다라마바사아자차카타파하거너더러머", longest=8) == [
        "가나다라마바사아",
        "자차카타파하거너",
        "더러머",
    ]
    assert pieces("가나다라마바사아자!카타파하거너더러!") == [
        "가나다라마바사아",
        *["자!카타파하거너", "자!카타", "자!", "자", "!", "카타", "파하거너"],
        *["더러!", "더러", "!"],
    ]
    assert pieces("가나다라마바!", longest=6) == [
        "가나다라",
        *["마바!", "마바", "!"],
    ]
    assert pieces("가나다라마", longest=1) == [
        "가나다",
        "가나",
        "가",
        "나",
        "다",
        "라마",
        "라",
        "마",
    ]


def test_what_is_left_of_a_cut_eojeol() -> None:
    reader = Reader("앞 가나다라마바사아자!카 뒤 !")
    found = eojeols(reader.read(cut=True))
    assert found == {
        0: [("앞", "앞")],
        1: [
            *[(char, "가나다라마바사아") for char in "가나다라마바사아"],
            *[("자", "자"), ("!", UNKNOWN_TAG), ("카", "카")],
        ],
        2: [("뒤", "뒤")],
        3: [("!", UNKNOWN_TAG)],
    }


def test_an_eojeol_that_pieces_help_is_cut() -> None:
    found = Reader("앞 " + "아" * 20 + " 뒤", longest=8).read(cut=True)
    assert found.status == "cut: too slow"
    assert found.eojeol == [0, *[1] * 20, 2]
    assert found.tags == ["앞", *["아" * 8] * 16, *["아" * 4] * 4, "뒤"]
    left = Reader("앞 " + "아" * 20 + " 뒤", longest=8).read(cut=False)
    assert left.status == "fallback: too slow"
    assert left.morphs == ["앞", "아" * 20, "뒤"]


# How many attempts


def bound(num_eojeols: int) -> float:
    """Attempts for one guilty eojeol: three around the longest and two halves, by turns."""
    return 5 * (math.log2(num_eojeols) + 1)


def assert_found(units: Sequence[str], guilty: int, most: float) -> None:
    units = list(units)
    units[guilty] = "!" * len(units[guilty])
    reader = Reader(" ".join(units))
    found = reader.read(cut=False)
    left = [n for n, tag in enumerate(found.tags) if tag == UNKNOWN_TAG]
    assert [(found.morphs[n], found.eojeol[n]) for n in left] == [(units[guilty], guilty)]
    assert "".join(found.morphs) == "".join(units)
    assert len(reader.asked) <= most
    assert reader.text not in reader.parts


@pytest.mark.parametrize("guilty", [0, 1, 500, 998, 999])
def test_the_longest_eojeol_is_found_at_once(guilty: int) -> None:
    assert_found(["가나" if n != guilty else "가나다" for n in range(1000)], guilty, most=3)


@pytest.mark.parametrize("guilty", [0, 1, 1000, 2047, 2998, 2999])
@pytest.mark.parametrize("kind", ["equal", "falling", "rising", "one long"])
def test_one_of_many_is_found_soon(kind: str, guilty: int) -> None:
    lengths = {
        "equal": [2] * 3000,
        "falling": [1 + (2999 - n) // 30 for n in range(3000)],
        "rising": [1 + n // 30 for n in range(3000)],
        "one long": [30 if n == 1500 else 1 for n in range(3000)],
    }[kind]
    assert_found(["가" * length for length in lengths], guilty, bound(3000))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 17])
def test_one_of_a_few_is_found_soon(count: int) -> None:
    for guilty in range(count):
        assert_found(["가나"] * count, guilty, bound(count))


@pytest.mark.parametrize("cut", [False, True])
def test_nothing_of_a_long_line_can_be_read(cut: bool) -> None:
    limit = sys.getrecursionlimit()
    text = " ".join(["!" * (1 + n % 3) for n in range(5 * limit)])
    reader = Reader(text)
    found = reader.read(cut)
    assert set(found.tags) == {UNKNOWN_TAG}
    assert "".join(found.morphs) == text.replace(" ", "")
    assert cut or found.morphs == text.split()
    # Each eojeol once by itself, and not more often as a part of others; then its characters.
    characters = len("".join(found.morphs))
    assert len(reader.asked) <= 10 * limit + (2 * characters if cut else 0)
