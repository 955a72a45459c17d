"""A line that fails as a whole: nothing is lost, few attempts, other parts are not affected."""

import math
import random
import sys
from collections.abc import Sequence

import pytest

from korlm.tokenizers.analysis import Analysis, Span
from korlm.tokenizers.workers.fallback import UNKNOWN_TAG, analyze_with_fallback

# All of these separate eojeols; several are not ASCII.
WHITE = [" ", "  ", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\u3000 \xa0"]
FAILED = "too slow"


class FakeAnalyzer:
    """An analyzer with one token per character that fails for some parts of the line.

    The tag of a token is the part in which it was analyzed.

    Args:
        text: the line.
        failing: characters that fail a part.
        longest: characters that a part may have.
    """

    def __init__(self, text: str, failing: str = "!", longest: int = 10**9) -> None:
        self.text = text
        self.failing = failing
        self.longest = longest
        self.attempts: list[Span] = []

    def accepts(self, part: str) -> bool:
        return len(part) <= self.longest and not set(part) & set(self.failing)

    def __call__(self, span: Span) -> Analysis | str:
        self.attempts.append(span)
        part = self.part(span)
        assert part == part.strip() != ""
        if not self.accepts(part):
            return FAILED
        morphs = [char for unit in part.split() for char in unit]
        eojeol = [index for index, unit in enumerate(part.split()) for _ in unit]
        return Analysis(morphs, [part] * len(morphs), eojeol, "ok", len(part), 0.5)

    def part(self, span: Span) -> str:
        return self.text[span.begin : span.end]

    @property
    def parts(self) -> list[str]:
        return [self.part(span) for span in self.attempts]

    def analyze(self, cut: bool) -> Analysis:
        return analyze_with_fallback(self.text, "too slow", self, cut)


def eojeols(analysis: Analysis) -> dict[int, list[tuple[str, str]]]:
    """Return tokens and tags by eojeol."""
    result: dict[int, list[tuple[str, str]]] = {}
    for token, tag, index in zip(analysis.morphs, analysis.tags, analysis.eojeol, strict=True):
        result.setdefault(index, []).append((token, tag))
    return result


def random_line(rng: random.Random) -> str:
    """Return a line that is not blank, of Hangul, failing characters and unusual white space."""
    units = [
        "".join(rng.choices("가나다!", [9, 9, 9, 1], k=rng.choice((1, 2, 5, 9, 21))))
        for _ in range(rng.randrange(1, 12))
    ]
    edges = [rng.choice(["", *WHITE]) for _ in range(2)]
    inner = [rng.choice(WHITE) for _ in units[1:]]
    return edges[0] + "".join(a + b for a, b in zip(units, [*inner, ""], strict=True)) + edges[1]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("longest", [0, 1, 3, 8, 10, 30, 10**9])
def test_every_character_is_in_one_token(cut: bool, longest: int) -> None:
    rng = random.Random(longest)
    lines = [random_line(rng) for _ in range(150)]
    analyzers = [FakeAnalyzer(line, longest=longest) for line in lines]
    analyzers = [analyzer for analyzer in analyzers if not analyzer.accepts(analyzer.text.strip())]
    assert len(analyzers) > 50
    for analyzer in analyzers:
        result = analyzer.analyze(cut)
        tokens = zip(result.morphs, result.tags, result.eojeol, strict=True)
        left = {(token, index) for token, tag, index in tokens if tag == UNKNOWN_TAG}
        units = list(enumerate(analyzer.text.split()))
        written = zip(result.eojeol, result.morphs, strict=True)
        assert [(index, char) for index, token in written for char in token] == [
            (index, char) for index, unit in units for char in unit
        ]
        suspects = [(c, index) for index, unit in units for c in (unit if cut else [unit])]
        assert left == {(token, index) for token, index in suspects if not analyzer.accepts(token)}
        assert result.status == ("fallback: too slow" if left else "cut: too slow")

        succeeded = [part for part in analyzer.parts if analyzer.accepts(part)]
        assert set(result.tags) - {UNKNOWN_TAG} == set(succeeded)
        assert result.seconds == 0.5 * len(succeeded)
        assert result.dropped == sum(map(len, succeeded))

        # No part is tried twice, and the whole line is never tried.
        assert len(set(analyzer.attempts)) == len(analyzer.attempts)
        assert analyzer.text.strip() not in analyzer.parts


def test_white_space_is_that_of_str_split() -> None:
    text = "".join(f"가{chr(code)}" for code in range(0x3100) if chr(code) != "!") + " !"
    result = FakeAnalyzer(text).analyze(cut=False)
    assert list(zip(result.eojeol, result.morphs, strict=True)) == [
        (index, char) for index, unit in enumerate(text.split()) for char in unit
    ]
    assert len(text.split()) == 1 + sum(map(str.isspace, text))


def test_only_failing_eojeols_are_affected() -> None:
    analyzer = FakeAnalyzer("가 나 다! 라 마마마 바 !")
    # Split around the longest eojeol; neither side can be analyzed, so each is halved.
    assert eojeols(analyzer.analyze(cut=False)) == {
        0: [("가", "가 나")],
        1: [("나", "가 나")],
        2: [("다!", UNKNOWN_TAG)],
        3: [("라", "라")],
        4: [("마", "마마마")] * 3,
        5: [("바", "바")],
        6: [("!", UNKNOWN_TAG)],
    }
    left, right = ["가 나 다! 라", "가 나", "다! 라", "다!", "라"], ["바 !", "바", "!"]
    assert analyzer.parts == [*left, "마마마", *right]


# One eojeol


def test_one_eojeol_stays_as_it_is_without_another_attempt() -> None:
    analyzer = FakeAnalyzer("\u3000 가나!다 ")
    expected = Analysis(["가나!다"], [UNKNOWN_TAG], [0], "fallback: too slow", 0, 0.0)
    assert analyzer.analyze(cut=False) == expected
    assert analyzer.attempts == []


def test_one_character_is_not_tried_again() -> None:
    analyzer = FakeAnalyzer(" ! ")
    assert analyzer.analyze(cut=True) == Analysis(["!"], [UNKNOWN_TAG], [0], "fallback: too slow")
    assert analyzer.attempts == []


def pieces(text: str, failing: str = "!", longest: int = 10**9) -> list[str]:
    analyzer = FakeAnalyzer(text, failing, longest)
    analyzer.analyze(cut=True)
    return analyzer.parts


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


def test_an_eojeol_that_pieces_help_is_cut() -> None:
    result = FakeAnalyzer("앞 " + "아" * 20 + " 뒤", longest=8).analyze(cut=True)
    assert result.status == "cut: too slow"
    assert result.eojeol == [0, *[1] * 20, 2]
    assert result.tags == ["앞", *["아" * 8] * 16, *["아" * 4] * 4, "뒤"]
    left = FakeAnalyzer("앞 " + "아" * 20 + " 뒤", longest=8).analyze(cut=False)
    assert left.status == "fallback: too slow"
    assert left.morphs == ["앞", "아" * 20, "뒤"]


# Number of attempts


def bound(num_eojeols: int) -> float:
    """Return a bound of the attempts for one failing eojeol: three and two parts alternately."""
    return 5 * (math.log2(num_eojeols) + 1)


def check_attempts(units: Sequence[str], failing: int, most: float) -> None:
    units = list(units)
    units[failing] = "!" * len(units[failing])
    analyzer = FakeAnalyzer(" ".join(units))
    result = analyzer.analyze(cut=False)
    left = [n for n, tag in enumerate(result.tags) if tag == UNKNOWN_TAG]
    assert [(result.morphs[n], result.eojeol[n]) for n in left] == [(units[failing], failing)]
    assert "".join(result.morphs) == "".join(units)
    assert len(analyzer.attempts) <= most
    assert analyzer.text not in analyzer.parts


@pytest.mark.parametrize("failing", [0, 1, 500, 998, 999])
def test_the_longest_eojeol_is_isolated_at_once(failing: int) -> None:
    check_attempts(["가나" if n != failing else "가나다" for n in range(1000)], failing, most=3)


@pytest.mark.parametrize("failing", [0, 1, 1000, 2047, 2998, 2999])
@pytest.mark.parametrize("kind", ["equal", "falling", "rising", "one long"])
def test_one_of_many_is_isolated_soon(kind: str, failing: int) -> None:
    lengths = {
        "equal": [2] * 3000,
        "falling": [1 + (2999 - n) // 30 for n in range(3000)],
        "rising": [1 + n // 30 for n in range(3000)],
        "one long": [30 if n == 1500 else 1 for n in range(3000)],
    }[kind]
    check_attempts(["가" * length for length in lengths], failing, bound(3000))


def test_one_of_a_few_is_isolated_soon() -> None:
    for count in (2, 3, 4, 5, 17):
        for failing in range(count):
            check_attempts(["가나"] * count, failing, bound(count))


@pytest.mark.parametrize("cut", [False, True])
def test_every_eojeol_of_a_long_line_fails(cut: bool) -> None:
    limit = sys.getrecursionlimit()
    text = " ".join(["!" * (1 + n % 3) for n in range(5 * limit)])
    analyzer = FakeAnalyzer(text)
    result = analyzer.analyze(cut)
    assert set(result.tags) == {UNKNOWN_TAG}
    assert "".join(result.morphs) == text.replace(" ", "")
    assert cut or result.morphs == text.split()
    # Each eojeol once by itself, and not more often as a part of others; then its characters.
    characters = len("".join(result.morphs))
    assert len(analyzer.attempts) <= 10 * limit + (2 * characters if cut else 0)


def test_the_status_has_the_reasons_of_all_parts() -> None:
    """A part that fails for want of time or memory must not look as if only the budget was met."""
    reasons = {"가나": "over budget", "다": "process died"}

    def attempt(span: Span) -> Analysis | str:
        part = "가나 다"[span.begin : span.end]
        return reasons.get(part, "over budget")

    line = analyze_with_fallback("가나 다", "over budget", attempt, may_cut=False)
    assert line.status == "fallback: over budget, process died"
    line = analyze_with_fallback("가나 다", "over budget", lambda _: "over budget", may_cut=False)
    assert line.status == "fallback: over budget"


@pytest.mark.parametrize("cut", [False, True])
def test_spans_are_those_of_the_line(cut: bool) -> None:
    text = " 가나 다!  라마바사아자차카! 타"

    def attempt(span: Span) -> Analysis | str:
        part = text[span.begin : span.end]
        if "!" in part:
            return FAILED
        begins = [at for at, char in enumerate(part) if not char.isspace()]
        eojeol = [part[:at].count(" ") for at in begins]
        spans = [bound for at in begins for bound in (at, at + 1)]
        return Analysis([part[at] for at in begins], [""] * len(begins), eojeol, spans=spans)

    result = analyze_with_fallback(text, FAILED, attempt, cut, with_spans=True)
    parts = zip(result.spans[::2], result.spans[1::2], strict=True)
    assert [text[begin:end] for begin, end in parts] == result.morphs
    assert "".join(result.morphs) == text.replace(" ", "")
