"""The spelling model against the formula, computed in exact fractions."""

import math
import random
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from korlm.dataset import spelling_model
from korlm.dataset.spelling_model import ORDER, UNIFORM, CharNgramModel
from korlm.utils.io.arrays import read_arrays, write_arrays

# Unicode's code points without surrogates, and the end of a word.
OUTCOMES = 0x110000 - 0x800 + 1
START, END = "<s>", "</s>"
ALPHABETS = ["가나다", "가각ab.\u1112\u119e", "가😀\U0010ffff\U00020000\u0300a"]


class WittenBell:
    """p(c | h) = (n(h, c) + t(h) p(c | h')) / (n(h) + t(h)), down to a uniform distribution."""

    def __init__(self, words: list[str]) -> None:
        self.n: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for word in words:
            padded = [START] * (ORDER - 1) + [*word, END]
            for at in range(ORDER - 1, len(padded)):
                for length in range(ORDER):
                    self.n[tuple(padded[at - length : at])][padded[at]] += 1

    def p(self, char: str, history: tuple[str, ...]) -> Fraction:
        lower = Fraction(1, OUTCOMES) if not history else self.p(char, history[1:])
        following = self.n.get(history)
        if not following:
            return lower
        n, t = sum(following.values()), len(following)
        return (following[char] + t * lower) / Fraction(n + t)

    def nats(self, word: str) -> float:
        padded = [START] * (ORDER - 1) + [*word, END]
        total = 0.0
        for at in range(ORDER - 1, len(padded)):
            p = self.p(padded[at], tuple(padded[at - ORDER + 1 : at]))
            total -= math.log(p.numerator) - math.log(p.denominator)
        return total


def random_words(seed: int, alphabet: str, count: int, longest: int = 6) -> list[str]:
    rng = random.Random(seed)
    words = ("".join(rng.choices(alphabet, k=rng.randint(1, longest))) for _ in range(count))
    return sorted(set(words))


def test_uniform() -> None:
    assert pytest.approx(1 / OUTCOMES, rel=1e-15) == UNIFORM


def test_words_are_counted_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    words = random_words(1, ALPHABETS[0], 60)
    whole = CharNgramModel.train(words)
    monkeypatch.setattr(spelling_model, "_CHUNK", 7)
    chunked = CharNgramModel.train(iter(words))
    for ours, expected in zip(
        chunked.grams + chunked.counts, whole.grams + whole.counts, strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


def test_by_hand() -> None:
    model = CharNgramModel.train(["가"])
    # n and t are 1 for each history. Without a history, 가 and the end occur once each.
    p = (1 + 2 * UNIFORM) / 4
    for _ in ("one character of history", "two characters"):
        p = (1 + p) / 2
    assert model.nats(["가"])[0] == pytest.approx(-2 * math.log(p))


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("count", [1, 5, 60])
def test_equals_the_formula(alphabet: str, count: int) -> None:
    train = random_words(1, alphabet, count)
    model, slow = CharNgramModel.train(train), WittenBell(train)
    tests = [*train, *random_words(2, alphabet + "힣z", 60, longest=9), ""]
    expected = [slow.nats(word) for word in tests]
    np.testing.assert_allclose(model.nats(tests), expected, rtol=1e-10)
    # The cost of a word does not depend on its neighbors.
    for word, nats in zip(tests, expected, strict=True):
        assert model.nats([word])[0] == pytest.approx(nats, rel=1e-10)


def test_probabilities_after_a_history_sum_to_one() -> None:
    slow = WittenBell(random_words(3, "가나a😀", 40))
    seen = [*"가나a😀", END]
    for history in [(), ("나",), (START, "가"), ("가", "나"), ("힣", "a"), ("힣", "힣")]:
        total = sum(slow.p(char, history) for char in seen)
        assert total + (OUTCOMES - len(seen)) * slow.p("힣", history) == 1


def test_no_words() -> None:
    model = CharNgramModel.train([])  # for which all characters are alike
    expected = [-math.log(UNIFORM), -3 * math.log(UNIFORM)]
    np.testing.assert_allclose(model.nats(["", "가😀"]), expected)
    nats = CharNgramModel.train(["가"]).nats([])
    assert nats.shape == (0,) and nats.dtype == np.float64


def test_a_likely_spelling_costs_less() -> None:
    model = CharNgramModel.train(["학교", "학생", "학교에", "학생이", "교실"])
    likely, odd, foreign = model.nats(["학교이", "교학에", "xyz"])
    assert likely < odd < foreign


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = CharNgramModel.train(random_words(4, ALPHABETS[2], 50))
    write_arrays(tmp_path / "spelling.npz", model.arrays())
    loaded = CharNgramModel.from_arrays(read_arrays(tmp_path / "spelling.npz"))
    tests = random_words(5, ALPHABETS[2] + "z", 50)
    assert loaded.nats(tests).tolist() == model.nats(tests).tolist()


def test_the_order_of_words_does_not_matter() -> None:
    words = random_words(6, "가나다라", 50)
    one, other = CharNgramModel.train(words), CharNgramModel.train(words[::-1])
    for key, array in one.arrays().items():
        assert np.array_equal(array, other.arrays()[key])
