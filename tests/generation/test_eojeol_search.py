"""The search against the enumeration of every eojeol of a toy language."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
import torch
from toys import MORPHS, TOKENS, ToyRecomposer, syllable_run, toy_run

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.generation.completion import Completer
from korlm.generation.eojeol_search import fixed_part
from korlm.models.base import LanguageModel
from korlm.modules.state import State
from korlm.text.keyboard import keys_of

LIGHTEST = 3e-5  # rows of tokens that are not followed


def every_eojeol(model: LanguageModel, before: list[int]) -> dict[str, float]:
    """P(e | context) by the formula of korlm.generation.eojeol_search, row by row."""
    detokenizer = ToyRecomposer()

    def following(state: State, token_id: int) -> tuple[list[float], State]:
        log_probs, state = model.step(torch.tensor([token_id]), state)
        probs = log_probs[0].double().exp()
        probs[[PAD_ID, UNK_ID, BOS_ID]] = 0
        return (probs / probs.sum()).tolist(), state

    found: dict[str, float] = defaultdict(float)

    def go_on(surface: str, left: str, mass: float, probs: list[float], state: State) -> None:
        for token_id, token in enumerate(TOKENS):
            p = probs[token_id]
            inside = 1 - detokenizer.boundary(left, token) if left else 1.0
            here = mass * p * inside
            if token_id == EOS_ID or here < LIGHTEST:
                continue
            joined = detokenizer.join(surface, left, token)
            after, new = following(state, token_id)
            stops = sum(
                q * (1.0 if i == EOS_ID else detokenizer.boundary(token, TOKENS[i]))
                for i, q in enumerate(after)
            )
            found[joined] += here * stops
            go_on(joined, token, here, after, new)

    state = model.initial_state(1)
    for token_id in before:
        probs, state = following(state, token_id)
    left = TOKENS[before[-1]] if len(before) > 1 else ""
    first = [
        0.0 if i == EOS_ID else p * (detokenizer.boundary(left, TOKENS[i]) if left else 1.0)
        for i, p in enumerate(probs)
    ]
    go_on("", "", 1.0, [p / sum(first) for p in first], state)
    return found


@pytest.mark.parametrize("context", ["", "먹 ", "하 고 "])
def test_all_that_begins_as_typed_with_its_probability(context: str) -> None:
    run = toy_run()
    ids = [EOS_ID, *(TOKENS.index(morph) for morph in context.split())]
    with torch.inference_mode():
        every = every_eojeol(run.model, ids)
    left_out = 1 - sum(every.values())
    assert 0 <= left_out < 0.02
    with Completer(run) as completer:
        for typed in ("", "ㄷ", "도", "도ㅇ", "도와", "먹ㅇ", "한", "하ㄴ", "고ㄷ"):
            fitting = {e: p for e, p in every.items() if keys_of(e).startswith(keys_of(typed))}
            found = completer.search(context + typed, 10**6, effort=600)
            total = sum(p for p, _ in found.eojeols.values())
            assert found.mass == pytest.approx(sum(fitting.values()), abs=left_out)
            assert total == pytest.approx(found.mass, abs=0.02)
            assert all(keys_of(e).startswith(keys_of(typed)) for e in found.eojeols)
            for eojeol, p in fitting.items():
                if p > 5e-3:
                    assert found.eojeols[eojeol][0] == pytest.approx(p, rel=0.1), eojeol


def test_what_was_searched_before_does_not_matter() -> None:
    with Completer(toy_run()) as fresh, Completer(toy_run()) as used:
        for typed in ("도", "", "ㄷ", "하", "ㄷㅗㅇ"):
            used.complete(typed)
        for typed in ("도와", "ㅎ", ""):
            first, second = fresh.search(typed, 5), used.search(typed, 5)
            assert first.mass == pytest.approx(second.mass, rel=1e-6)
            assert first.eojeols.keys() == second.eojeols.keys()


def test_more_effort_finds_more() -> None:
    with Completer(toy_run()) as completer:
        sizes = [len(completer.search("", 10**6, effort).eojeols) for effort in (1, 16, 200)]
        assert sizes[0] == 1 and sizes == sorted(set(sizes))


def test_nothing_begins_so() -> None:
    with Completer(toy_run()) as completer:
        found = completer.search("컴퓨터", 5)
    assert found.eojeols == {} and found.mass == 0


def test_what_may_change_admits_every_join() -> None:
    """Of all rows of three morphs, whatever the rules make of them."""
    detokenizer, changed = ToyRecomposer(), 0
    for first, second, third in itertools.product(MORPHS, repeat=3):
        surface = detokenizer.join(first, first, second)
        joined = detokenizer.join(surface, second, third)
        fixed = fixed_part(surface, detokenizer.num_unstable_chars(surface, second))
        assert fixed.is_compatible(keys_of(joined)), (surface, third, joined)
        changed += joined != surface + third
    assert changed > 50


@torch.inference_mode()
def test_blanks_that_are_tokens() -> None:
    """A syllable model's eojeol ends where it writes a blank or <eos>."""
    run = syllable_run()
    with Completer(run) as completer:
        found = completer.search("가나 ", 10**6, effort=500)
        assert all(" " not in eojeol and "▁" not in eojeol for eojeol in found.eojeols)
        assert sum(p for p, _ in found.eojeols.values()) == pytest.approx(1, abs=0.1)
        blank, na = run.vocab.tokens.index("▁"), run.vocab.tokens.index("나")
        context = torch.tensor([[EOS_ID, run.vocab.tokens.index("가"), na, blank]])
        probs = run.model.log_probs(context)[0][0, -1].exp()
        probs[[PAD_ID, UNK_ID, BOS_ID, EOS_ID, blank]] = 0
        first = probs[na] / probs.sum()
        after = run.model.log_probs(torch.cat([context, torch.tensor([[na]])], 1))[0][0, -1].exp()
        after[[PAD_ID, UNK_ID, BOS_ID]] = 0
        ends = (after[EOS_ID] + after[blank]) / after.sum()
        assert found.eojeols["나"][0] == pytest.approx(float(first * ends), rel=1e-4)
