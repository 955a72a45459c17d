"""Completions: probabilities given the typed keys; contexts are encoded once."""

from __future__ import annotations

import gc
import weakref

import pytest
from toys import PairsModel, ToyRun, syllable_run, toy_run, toy_vocab

from korlm.generation.completion import Completer, split_typed
from korlm.text.hangul import keys_of
from korlm.utils.errors import ConfigError


@pytest.mark.parametrize("text", ["", "먹 ", "먹 하ㄴ", "ㄷㅗ", "도 먹\n먹", "도\n"])
def test_probabilities_given_the_typed_keys(text: str) -> None:
    with Completer(toy_run()) as completer:
        result = completer.complete(text, 4)
        probabilities = [eojeol.probability for eojeol in result.eojeols]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < len(probabilities) <= 4 and 0 < result.typed_probability <= 1 + 1e-6
        assert sum(probabilities) + result.rest == pytest.approx(1)
        context, typed = split_typed(text)
        assert all(keys_of(e.text).startswith(keys_of(typed)) for e in result.eojeols)
        # Chain rule: P(eojeol | context) does not depend on how much of it is typed.
        best = result.eojeols[0]
        longer = completer.complete(context + best.text, 10)
        same = next(eojeol for eojeol in longer.eojeols if eojeol.text == best.text)
        assert same.probability * longer.typed_probability == pytest.approx(
            best.probability * result.typed_probability, rel=0.05
        )


def test_fewer_completions_are_the_first_of_more() -> None:
    with Completer(toy_run()) as completer:
        ten, three = (completer.complete("먹 ", k, max_expansions=400).eojeols for k in (10, 3))
        assert [e.text for e in ten[:3]] == [e.text for e in three]


@pytest.mark.parametrize("typed", ["xyz", "컴퓨터"])
def test_no_completion(typed: str) -> None:
    with Completer(toy_run()) as completer:
        result = completer.complete(f"먹 {typed}")
    assert (result.eojeols, result.typed_probability, result.rest) == ([], 0, 0)


@pytest.mark.parametrize(
    ("spread", "seed", "typed"),
    [(4.0, 8, "돕ㅇ"), (8.0, 1, "돕ㅇ"), (8.0, 3, "하ㅇ"), (8.0, 6, "먹도ㅂㅇ"), (12.0, 8, "돕ㅇ")],
)
def test_keys_of_tiny_probability(spread: float, seed: int, typed: str) -> None:
    """Their probability is a difference of sums that are much larger."""
    run = ToyRun(PairsModel(seed=seed, spread=spread), toy_vocab())
    with Completer(run) as completer:
        found = sum(p for p, _ in completer.search(typed, 10, 600).eojeols.values())
        result = completer.complete(typed, max_expansions=600)
    assert 0 < found < 1e-6
    assert result.typed_probability == pytest.approx(found, rel=0.01, abs=0)
    assert sum(e.probability for e in result.eojeols) + result.rest == pytest.approx(1)


def test_a_context_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with Completer(toy_run()) as completer:
        encoded = []
        encode = completer.encoder.encode
        monkeypatch.setattr(completer.encoder, "encode", lambda t: encoded.append(t) or encode(t))
        for text in ("먹 ", "먹 ㄷ", "먹 도", "먹 도ㅇ", "먹 도와 ", "먹 도와 ㄴ"):
            completer.complete(text)
        assert encoded == ["먹 ", "먹 도와 "]


@pytest.mark.parametrize("num_completions", [0, -1])
def test_one_completion_is_the_minimum(num_completions: int) -> None:
    with (
        Completer(toy_run()) as completer,
        pytest.raises(ConfigError, match=f"num_completions={num_completions}: must be at least 1"),
    ):
        completer.complete("먹 ", num_completions)


def test_a_search_is_for_one_eojeol_or_more() -> None:
    with (
        Completer(toy_run()) as completer,
        pytest.raises(ConfigError, match="num_eojeols=0: must be at least 1"),
    ):
        completer.search("먹 ", 0, 5)


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("korlm.generation.completion.MAX_CACHED_NODES", 10)
    with Completer(toy_run()) as completer:
        encoded = []
        encode = completer.encoder.encode
        monkeypatch.setattr(completer.encoder, "encode", lambda t: encoded.append(t) or encode(t))
        first = completer.complete("먹 ", 3)
        for typed in ("도", "하", "먹", "고"):
            completer.complete("먹 " + typed)
        assert completer.search("먹 ", 3, 5) and completer._last[2].num_expanded <= 10
        assert completer.complete("먹 ", 3).eojeols == first.eojeols
        assert encoded == ["먹 "]  # only the search tree is dropped


def test_a_tree_is_freed_with_its_context() -> None:
    """Without the garbage collector, which would take longer than a keystroke."""
    gc.disable()
    try:
        with Completer(toy_run()) as completer:
            completer.complete("먹 도")
            assert completer._last is not None
            root = weakref.ref(completer._last[2].root)
            completer.complete("하 도")
            assert root() is None
    finally:
        gc.enable()


def test_syllables() -> None:
    with Completer(syllable_run()) as completer:
        assert {e.text[0] for e in completer.complete("가 ㄴ", 5).eojeols} == {"나"}
        assert completer.complete("", 3).eojeols[0].text.strip()


def test_the_model_needs_no_gradients() -> None:
    with Completer(toy_run()) as completer:
        completer.complete("도")
        assert not any(p.requires_grad for p in completer.encoder.model.parameters())
