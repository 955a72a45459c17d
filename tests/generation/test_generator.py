"""Texts that a run writes: repeatable, readable, with their prompts as they were written."""

from __future__ import annotations

import pytest
import torch
from toys import TOKENS, ToyRun, syllable_run, toy_run

from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.generation.generator import Generator, StoppingCriteria
from korlm.generation.sampling import UNWRITABLE, Sampling
from korlm.text.keyboard import keys_of

RUNS = {"morphs": toy_run, "syllables": syllable_run}
LONG = StoppingCriteria(40, 4)


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> ToyRun:
    return RUNS[request.param]()


@pytest.mark.parametrize("prompt", ["", "도 ", "도  ", "XYZ 12, '따옴표' ", "도\n하 "])
def test_the_prompt_stays_and_the_text_goes_on(run: ToyRun, prompt: str) -> None:
    with Generator(run) as generator:
        for seed in range(5):
            pieces = list(generator.stream(prompt, length=LONG, seed=seed))
            text = "".join(pieces)
            assert text.startswith(prompt) and len(text.strip()) > len(prompt.strip())
            assert text.endswith("\n") and not text.endswith("\n\n")
            assert not text[len(prompt) :].startswith((" ", "\n"))
            # Every piece is final: an eojeol and what parts it from the next one.
            assert all(piece.endswith((" ", "\n")) for piece in pieces[1:])


@pytest.mark.parametrize("prompt", ["먹 하", "먹ㅇ", "ㄷ", "도"])
def test_the_last_eojeol_goes_on_from_the_keys_typed(prompt: str) -> None:
    before, typed = prompt[: prompt.find(" ") + 1], prompt.split()[-1]
    with Generator(toy_run()) as generator:
        ends = set()
        for seed in range(20):
            text = "".join(generator.stream(prompt, seed=seed))
            eojeol = text[len(before) :].split()[0]
            assert text.startswith(before) and keys_of(eojeol).startswith(keys_of(typed))
            ends.add(eojeol)
    assert len(ends) > 1


def test_an_eojeol_that_the_model_does_not_know_stays() -> None:
    with Generator(toy_run()) as generator:
        text = "".join(generator.stream("먹 컴퓨터"))
        assert text.startswith("먹 컴퓨터 ") and len(text) > len("먹 컴퓨터 \n")
        assert generator.best("먹 컴퓨터", 3)[0][0].startswith("먹 컴퓨터 ")


def test_the_seed_decides(run: ToyRun) -> None:
    sampling = Sampling(1.2, 5, 0.9, 1.1)
    with Generator(run) as one, Generator(run) as other:
        texts = one.texts("", sampling, LONG, seed=3, num_samples=4)
        torch.manual_seed(5)
        other.texts("도 ", sampling, LONG)
        assert other.texts("", sampling, LONG, seed=3, num_samples=4) == texts
        assert other.texts("", sampling, LONG, seed=4) == texts[1:2]
        assert len(set(texts)) > 1


def test_no_special_token_is_written(run: ToyRun) -> None:
    run.model.table.data[:, :, [*UNWRITABLE]] += 20
    with Generator(run) as generator:
        texts = generator.texts("", Sampling(), LONG, num_samples=10)
        texts += [text for text, _ in generator.best("", 4, LONG)]
        texts += [e.text for e in generator.completer.complete("", 10).eojeols]
    assert not any(mark in text for text in texts for mark in "<>▁")


def test_greedy_is_one_beam() -> None:
    """Over tokens, behind a blank: both take the likeliest token each time."""
    with Generator(toy_run(seed=4)) as generator:
        greedy = "".join(generator.stream("", Sampling(0.0), StoppingCriteria(6, 1)))
        assert generator.best("", 1, StoppingCriteria(6, 1))[0][0] == greedy


@pytest.mark.parametrize("prompt", ["", "먹 하", "도 "])
def test_beams_come_with_falling_scores(run: ToyRun, prompt: str) -> None:
    with Generator(run) as generator:
        best = generator.best(prompt, 6, StoppingCriteria(8, 1))
    texts, scores = zip(*best, strict=True)
    assert list(scores) == sorted(scores, reverse=True)
    assert len(set(texts)) == len(texts) > 1
    assert all(text.endswith("\n") and text.count("\n") == 1 for text in texts)


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
def test_length(start_id: int) -> None:
    run = toy_run(start_id=start_id)
    run.model.table.data[:, :, EOS_ID] += 2
    with Generator(run) as generator:
        for sentences in (1, 3):
            text = "".join(generator.stream(length=StoppingCriteria(500, sentences)))
            lines = text.split("\n")
            assert len(lines) == sentences + 1 and all(lines[:-1])
        run.model.table.data[:, :, EOS_ID] -= 50
    with Generator(run) as generator:
        text = "".join(generator.stream(length=StoppingCriteria(7, 1)))
        assert 1 <= len(text.split()) <= 7 and text.count("\n") == 1


def test_a_penalty_avoids_what_was_said() -> None:
    run = toy_run()
    run.model.table.data[:, :, TOKENS.index("고")] += 8
    run.model.table.data[:, :, EOS_ID] -= 50
    with Generator(run) as generator:
        plain = "".join(generator.stream("", Sampling(0.0), StoppingCriteria(12, 1)))
        varied = "".join(
            generator.stream("", Sampling(0.0, repetition_penalty=1e4), StoppingCriteria(12, 1))
        )
    assert plain.count("고") == 12 and varied.count("고") <= 2
