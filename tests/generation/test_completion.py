"""Completions as users see them: probabilities given what is typed, contexts read once a blank."""

from __future__ import annotations

import pytest
import torch
from toys import syllable_run, toy_run

from korlm.generation.completion import Completer, split_typed
from korlm.text.keyboard import keys_of


@pytest.mark.parametrize("text", ["", "먹 ", "먹 하ㄴ", "ㄷㅗ", "도 먹\n먹", "도\n"])
def test_probabilities_given_what_is_typed(text: str) -> None:
    with Completer(toy_run()) as completer:
        found = completer.complete(text, 4)
        probabilities = [eojeol.probability for eojeol in found.eojeols]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < len(probabilities) <= 4 and 0 < found.typed_probability <= 1 + 1e-6
        assert sum(probabilities) + found.rest == pytest.approx(1)
        typed = keys_of(split_typed(text)[1])
        assert all(keys_of(eojeol.text).startswith(typed) for eojeol in found.eojeols)
        # The chain rule: what more keys leave, over what they weigh.
        one = found.eojeols[0]
        more = completer.complete(split_typed(text)[0] + one.text, 10)
        same = next(eojeol for eojeol in more.eojeols if eojeol.text == one.text)
        assert same.probability * more.typed_probability == pytest.approx(
            one.probability * found.typed_probability, rel=0.05
        )


def test_more_are_fewer_of_more() -> None:
    with Completer(toy_run()) as completer:
        ten, three = (completer.complete("먹 ", k, effort=400).eojeols for k in (10, 3))
        assert [e.text for e in ten[:3]] == [e.text for e in three]


def test_nothing_is_known_to_begin_so() -> None:
    with Completer(toy_run()) as completer:
        found = completer.complete("먹 xyz")
    assert (found.eojeols, found.typed_probability, found.rest) == ([], 0, 0)


def test_a_key_reads_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    with Completer(toy_run()) as completer:
        read = []
        original = completer.reader.read
        monkeypatch.setattr(completer.reader, "read", lambda t: read.append(t) or original(t))
        for text in ("먹 ", "먹 ㄷ", "먹 도", "먹 도ㅇ", "먹 도와 ", "먹 도와 ㄴ"):
            completer.complete(text)
        assert read == ["먹 ", "먹 도와 "]


def test_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("korlm.generation.completion.MAX_READ", 10)
    with Completer(toy_run()) as completer:
        first = completer.complete("먹 ", 3)
        for typed in ("도", "하", "먹", "고"):
            completer.complete("먹 " + typed)
        assert completer.search("먹 ", 3, 5) and completer._last[2].num_read <= 10
        again = completer.complete("먹 ", 3)
    assert [e.text for e in again.eojeols] == [e.text for e in first.eojeols]


def test_syllables() -> None:
    with Completer(syllable_run()) as completer:
        assert {e.text[0] for e in completer.complete("가 ㄴ", 5).eojeols} == {"나"}
        assert completer.complete("", 3).eojeols[0].text.strip()


@torch.inference_mode()
def test_no_gradient_is_kept() -> None:
    with Completer(toy_run()) as completer:
        completer.complete("도")
        assert not any(p.requires_grad for p in completer.reader.model.parameters())
