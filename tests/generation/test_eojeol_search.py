"""The eojeol search against the enumeration of every eojeol of a toy language."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from toys import MORPHS, TOKENS, ToyDetokenizer, syllable_run, toy_run

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from korlm.generation.completion import MAX_EXPANSIONS, Completer
from korlm.generation.eojeol_search import _top
from korlm.generation.lexicon import stable_prefix
from korlm.models.base import LanguageModel
from korlm.modules.base import State
from korlm.text.hangul import keys_of

MIN_PROB = 3e-5  # of a token sequence that is enumerated


def every_eojeol(model: LanguageModel, context_ids: list[int]) -> dict[str, float]:
    """Return P(e | context) by the formula of ``eojeol_search``, without batches or heap."""
    detokenizer = ToyDetokenizer()

    def next_probs(state: State, token_id: int) -> tuple[list[float], State]:
        log_probs, state = model.step(torch.tensor([token_id]), state)
        probs = log_probs[0].double().exp()
        probs[[PAD_ID, UNK_ID, BOS_ID]] = 0
        return (probs / probs.sum()).tolist(), state

    eojeols: dict[str, float] = defaultdict(float)

    def extend(surface: str, left: str, prob: float, probs: list[float], state: State) -> None:
        for token_id, token in enumerate(TOKENS):
            no_space = 1 - detokenizer.space_probability(left, token) if left else 1.0
            child_prob = prob * probs[token_id] * no_space
            if token_id == EOS_ID or child_prob < MIN_PROB:
                continue
            child_surface = detokenizer.join(surface, left, token)
            child_probs, child_state = next_probs(state, token_id)
            eojeols[child_surface] += child_prob * sum(
                p * (1.0 if i == EOS_ID else detokenizer.space_probability(token, TOKENS[i]))
                for i, p in enumerate(child_probs)
            )
            extend(child_surface, token, child_prob, child_probs, child_state)

    state = model.initial_state(1)
    for token_id in context_ids:
        probs, state = next_probs(state, token_id)
    left = TOKENS[context_ids[-1]] if len(context_ids) > 1 else ""
    first = [
        0.0 if i == EOS_ID else p * (detokenizer.space_probability(left, TOKENS[i]) if left else 1)
        for i, p in enumerate(probs)
    ]
    extend("", "", 1.0, [p / sum(first) for p in first], state)
    return eojeols


@pytest.mark.parametrize("context", ["", "먹 ", "하 고 "])
def test_probabilities_equal_those_of_the_enumeration(context: str) -> None:
    run = toy_run()
    ids = [EOS_ID, *(TOKENS.index(morph) for morph in context.split())]
    with torch.inference_mode():
        every = every_eojeol(run.model, ids)
    not_enumerated = 1 - sum(every.values())
    assert 0 <= not_enumerated < 0.02
    with Completer(run) as completer:
        for typed in ("", "ㄷ", "도", "도ㅇ", "도와", "먹ㅇ", "한", "하ㄴ", "고ㄷ"):
            expected = {e: p for e, p in every.items() if keys_of(e).startswith(keys_of(typed))}
            result = completer.search(context + typed, 10**6, 600)
            total = sum(p for p, _ in result.eojeols.values())
            assert result.typed_probability == pytest.approx(
                sum(expected.values()), abs=not_enumerated
            )
            assert total == pytest.approx(result.typed_probability, abs=0.02)
            assert all(keys_of(e).startswith(keys_of(typed)) for e in result.eojeols)
            for eojeol, p in expected.items():
                if p > 5e-3:
                    assert result.eojeols[eojeol][0] == pytest.approx(p, rel=0.1), eojeol


def test_earlier_searches_do_not_change_the_result() -> None:
    with Completer(toy_run()) as fresh, Completer(toy_run()) as used:
        for typed in ("도", "", "ㄷ", "하", "ㄷㅗㅇ"):
            used.complete(typed)
        for typed in ("도와", "ㅎ", ""):
            first, second = (c.search(typed, 5, MAX_EXPANSIONS) for c in (fresh, used))
            assert first.typed_probability == pytest.approx(second.typed_probability, rel=1e-6)
            assert first.eojeols.keys() == second.eojeols.keys()


def test_more_expansions_find_more_eojeols() -> None:
    with Completer(toy_run()) as completer:
        sizes = [len(completer.search("", 10**6, limit).eojeols) for limit in (1, 16, 200)]
        assert sizes[0] == 1 and sizes == sorted(set(sizes))


@pytest.mark.parametrize("peaked", [0, 4])
def test_the_largest_values_in_the_order_of_ids(peaked: int) -> None:
    """Also with ties, which every machine must resolve in the same way, and with zeros."""
    generator = np.random.default_rng(1)
    for size in (3, 20, 2000):
        values = generator.integers(0, 50, size).astype(np.float32) ** (1 + peaked)
        ids = generator.permutation(size)[: size // 2]
        for count in (1, 5, 64):
            for given in (None, ids):
                order = np.arange(size) if given is None else given
                expected = order[np.argsort(-values[order], kind="stable")][:count]
                top = _top(values, given, count)
                assert sorted(top) == sorted(i for i in expected if values[i] > 0)


def test_stable_prefix_is_compatible_with_every_join() -> None:
    """Over all sequences of three morphs."""
    detokenizer, num_changed = ToyDetokenizer(), 0
    for first, second, third in itertools.product(MORPHS, repeat=3):
        surface = detokenizer.join(first, first, second)
        joined = detokenizer.join(surface, second, third)
        stable = stable_prefix(surface, detokenizer.num_unstable_chars(surface, second))
        assert stable.is_compatible(keys_of(joined)), (surface, third, joined)
        num_changed += joined != surface + third
    assert num_changed > 50


@torch.inference_mode()
def test_space_tokens() -> None:
    """An eojeol of a syllable model ends before a space token or <eos>."""
    run = syllable_run()
    with Completer(run) as completer:
        result = completer.search("가나 ", 10**6, 500)
        assert all(" " not in eojeol and "▁" not in eojeol for eojeol in result.eojeols)
        assert sum(p for p, _ in result.eojeols.values()) == pytest.approx(1, abs=0.1)
        space, na = run.vocab.tokens.index("▁"), run.vocab.tokens.index("나")
        context = torch.tensor([[EOS_ID, run.vocab.tokens.index("가"), na, space]])
        probs = run.model.log_probs(context)[0][0, -1].exp()
        probs[[PAD_ID, UNK_ID, BOS_ID, EOS_ID, space]] = 0
        first = probs[na] / probs.sum()
        after = run.model.log_probs(torch.cat([context, torch.tensor([[na]])], 1))[0][0, -1].exp()
        after[[PAD_ID, UNK_ID, BOS_ID]] = 0
        end_prob = (after[EOS_ID] + after[space]) / after.sum()
        assert result.eojeols["나"][0] == pytest.approx(float(first * end_prob), rel=1e-4)
