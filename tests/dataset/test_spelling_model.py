"""The spelling model against the formula, computed in exact fractions."""

import math
import random
from collections import Counter, defaultdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from korlm.dataset import spelling_model
from korlm.dataset.spelling_model import UNIFORM, CharNgramModel

# Unicode's code points without surrogates, and the end of a word.
OUTCOMES = 0x110000 - 0x800 + 1
START, END = "<s>", "</s>"
ALPHABETS = ["가나다", "가각ab.\u1112\u119e", "가😀\U0010ffff\U00020000\u0300a"]


class WittenBell:
    """p(c | h) = (n(h, c) + t(h) p(c | h')) / (n(h) + t(h)), down to a uniform distribution."""

    def __init__(self, words: list[str], order: int) -> None:
        self.order = order
        self.n: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for word in words:
            padded = [START] * (order - 1) + [*word, END]
            for at in range(order - 1, len(padded)):
                for length in range(order):
                    self.n[tuple(padded[at - length : at])][padded[at]] += 1

    def p(self, char: str, history: tuple[str, ...]) -> Fraction:
        lower = Fraction(1, OUTCOMES) if not history else self.p(char, history[1:])
        following = self.n.get(history)
        if not following:
            return lower
        n, t = sum(following.values()), len(following)
        return (following[char] + t * lower) / Fraction(n + t)

    def nats(self, word: str) -> float:
        padded = [START] * (self.order - 1) + [*word, END]
        total = 0.0
        for at in range(self.order - 1, len(padded)):
            p = self.p(padded[at], tuple(padded[at - self.order + 1 : at]))
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
    model = CharNgramModel.train(["가", "가나"], order=1)
    # Counts: 가 twice, 나 once, the end twice; five in all, of three types.
    ga, na, end, other = ((n + 3 * UNIFORM) / 8 for n in (2, 1, 2, 0))
    assert model.nats(["가"])[0] == pytest.approx(-math.log(ga * end))
    assert model.nats(["나나"])[0] == pytest.approx(-math.log(na * na * end))
    assert model.nats([""])[0] == pytest.approx(-math.log(end))
    assert model.nats(["다"])[0] == pytest.approx(-math.log(other * end))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("count", [1, 5, 60])
def test_equals_the_formula(order: int, alphabet: str, count: int) -> None:
    train = random_words(1, alphabet, count)
    model, slow = CharNgramModel.train(train, order), WittenBell(train, order)
    assert model.order == order
    tests = [*train, *random_words(2, alphabet + "힣z", 60, longest=9), ""]
    expected = [slow.nats(word) for word in tests]
    np.testing.assert_allclose(model.nats(tests), expected, rtol=1e-10)
    # The cost of a word does not depend on its neighbors.
    for word, nats in zip(tests, expected, strict=True):
        assert model.nats([word])[0] == pytest.approx(nats, rel=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_after_a_history_sum_to_one(order: int) -> None:
    train = random_words(3, "가나a😀", 40)
    slow = WittenBell(train, order)
    seen = [*"가나a😀", END]
    some_unseen = "힣"
    for history in [(START, "가"), ("가", "나"), ("힣", "a"), ("힣", "힣"), (START, START)]:
        context = history[2 - (order - 1) :] if order > 1 else ()
        total = sum(slow.p(char, context) for char in seen)
        rest = (OUTCOMES - len(seen)) * slow.p(some_unseen, context)
        assert total + rest == 1


def test_single_characters_sum_to_one() -> None:
    # The same for the fast model, where order 1 reveals p(c): p(word) = p(c) p(end).
    train = random_words(3, "가나a😀", 40)
    model = CharNgramModel.train(train, order=1)
    end = math.exp(-model.nats([""])[0])
    seen = sum(np.exp(-model.nats(list("가나a😀")))) / end
    rest = (OUTCOMES - 5) * math.exp(-model.nats(["힣"])[0]) / end
    assert end + seen + rest == pytest.approx(1, rel=1e-12)


def test_trained_on_nothing_all_characters_are_alike() -> None:
    model = CharNgramModel.train([])
    expected = [-math.log(UNIFORM), -3 * math.log(UNIFORM)]
    np.testing.assert_allclose(model.nats(["", "가😀"]), expected)


def test_no_words() -> None:
    nats = CharNgramModel.train(["가"]).nats([])
    assert nats.shape == (0,) and nats.dtype == np.float64


def test_a_likely_spelling_costs_less() -> None:
    model = CharNgramModel.train(["학교", "학생", "학교에", "학생이", "교실"])
    likely, odd, foreign = model.nats(["학교이", "교학에", "xyz"])
    assert likely < odd < foreign


@pytest.mark.parametrize("order", [0, 4])
def test_orders_that_do_not_fit(order: int) -> None:
    with pytest.raises(ValueError, match="1, 2 or 3"):
        CharNgramModel.train(["가"], order)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_saved_and_loaded(tmp_path: Path, order: int) -> None:
    words = random_words(4, ALPHABETS[2], 50)
    model = CharNgramModel.train(words, order)
    np.savez(tmp_path / "spelling.npz", **model.arrays())
    with np.load(tmp_path / "spelling.npz", allow_pickle=False) as arrays:
        loaded = CharNgramModel.from_arrays(dict(arrays))
    assert loaded.order == order
    tests = random_words(5, ALPHABETS[2] + "z", 50)
    assert loaded.nats(tests).tolist() == model.nats(tests).tolist()


def test_the_order_of_words_does_not_matter() -> None:
    words = random_words(6, "가나다라", 50)
    one, other = CharNgramModel.train(words), CharNgramModel.train(words[::-1])
    for key, array in one.arrays().items():
        assert np.array_equal(array, other.arrays()[key])
