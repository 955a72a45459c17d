"""Generated texts: repeatable, readable, starting with their prompts."""

from __future__ import annotations

import pytest
import torch
from toys import TOKENS, PairsModel, ToyRun, syllable_run, toy_run, toy_vocab

from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.generation.generator import Generator, StoppingCriteria
from korlm.generation.sampling import BANNED_IDS, Sampling
from korlm.text.hangul import keys_of

RUNS = {"morphs": toy_run, "syllables": syllable_run}
LONG = StoppingCriteria(40, 4)


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> ToyRun:
    return RUNS[request.param]()


def texts(generator: Generator, count: int, seed: int = 1, **options: object) -> list[str]:
    return ["".join(generator.stream(seed=seed + n, **options)) for n in range(count)]


@pytest.mark.parametrize("prompt", ["", "도 ", "도  ", "XYZ 12, '따옴표' ", "도\n하 "])
def test_text_starts_with_the_prompt_and_every_piece_is_final(run: ToyRun, prompt: str) -> None:
    with Generator(run) as generator:
        for seed in range(5):
            pieces = list(generator.stream(prompt, stopping=LONG, seed=seed))
            text = "".join(pieces)
            assert text.startswith(prompt) and len(text.strip()) > len(prompt.strip())
            assert text.endswith("\n") and not text.endswith("\n\n")
            assert not text[len(prompt) :].startswith((" ", "\n"))
            assert all(piece.endswith((" ", "\n")) for piece in pieces[1:])


@pytest.mark.parametrize("prompt", ["먹 하", "먹ㅇ", "ㄷ", "도"])
def test_the_last_eojeol_is_completed_from_its_keys(prompt: str) -> None:
    before, typed = prompt[: prompt.find(" ") + 1], prompt.split()[-1]
    with Generator(toy_run()) as generator:
        eojeols = set()
        for text in texts(generator, 20, prompt=prompt):
            eojeol = text[len(before) :].split()[0]
            assert text.startswith(before) and keys_of(eojeol).startswith(keys_of(typed))
            eojeols.add(eojeol)
    assert len(eojeols) > 1


def test_an_unknown_last_eojeol_is_kept() -> None:
    with Generator(toy_run()) as generator:
        text = "".join(generator.stream("먹 컴퓨터"))
        assert text.startswith("먹 컴퓨터 ") and len(text) > len("먹 컴퓨터 \n")
        assert generator.beam_search("먹 컴퓨터", 3)[0][0].startswith("먹 컴퓨터 ")


@pytest.mark.parametrize(("spread", "seed"), [(8.0, 3), (12.0, 11)])
def test_a_last_eojeol_of_tiny_probability_is_completed(spread: float, seed: int) -> None:
    """Its probability is less than the rounding of the sums that it is the difference of."""
    run = ToyRun(PairsModel(seed=seed, spread=spread), toy_vocab())
    with Generator(run) as generator:
        eojeol = "".join(generator.stream("하ㅇ")).split()[0]
        assert eojeol != "하ㅇ" and keys_of(eojeol).startswith(keys_of("하ㅇ"))


def test_the_seed_determines_the_text(run: ToyRun) -> None:
    options = {"sampling": Sampling(1.2, 5, 0.9, 1.1), "stopping": LONG}
    with Generator(run) as first, Generator(run) as second:
        expected = texts(first, 4, seed=3, **options)
        torch.manual_seed(5)
        texts(second, 1, prompt="도 ", **options)
        assert texts(second, 4, seed=3, **options) == expected
        assert len(set(expected)) > 1


def test_no_special_token_is_generated(run: ToyRun) -> None:
    run.model.table.data[:, :, [*BANNED_IDS]] += 20
    with Generator(run) as generator:
        generated = texts(generator, 10, stopping=LONG)
        generated += [text for text, _ in generator.beam_search("", 4, LONG)]
        generated += [e.text for e in generator.complete("", 10).eojeols]
    assert not any(mark in text for text in generated for mark in "<>▁")


def test_greedy_decoding_equals_one_beam() -> None:
    with Generator(toy_run(seed=4)) as generator:
        greedy = "".join(generator.stream("", Sampling(0.0), StoppingCriteria(6, 1)))
        assert generator.beam_search("", 1, StoppingCriteria(6, 1))[0][0] == greedy


@pytest.mark.parametrize("prompt", ["", "먹 하", "도 "])
def test_beam_search_returns_distinct_texts_in_descending_order(run: ToyRun, prompt: str) -> None:
    with Generator(run) as generator:
        best = generator.beam_search(prompt, 6, StoppingCriteria(8, 1))
    result, scores = zip(*best, strict=True)
    assert list(scores) == sorted(scores, reverse=True)
    assert len(set(result)) == len(result) > 1
    assert all(text.endswith("\n") and text.count("\n") == 1 for text in result)


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
def test_stopping_criteria(start_id: int) -> None:
    run = toy_run(start_id=start_id)
    run.model.table.data[:, :, EOS_ID] += 2
    with Generator(run) as generator:
        for num_sentences in (1, 3):
            text = "".join(generator.stream(stopping=StoppingCriteria(500, num_sentences)))
            lines = text.split("\n")
            assert len(lines) == num_sentences + 1 and all(lines[:-1])
        run.model.table.data[:, :, EOS_ID] -= 50
    with Generator(run) as generator:
        text = "".join(generator.stream(stopping=StoppingCriteria(7, 1)))
        assert 1 <= len(text.split()) <= 7 and text.count("\n") == 1


def test_a_text_whose_last_token_is_eos_ends_in_one_newline() -> None:
    run = toy_run()
    run.model.table.data[:, :, EOS_ID] += 50  # every other token: there are no empty sentences
    with Generator(run) as generator:
        text = "".join(generator.stream(stopping=StoppingCriteria(4, 3)))
    assert text.count("\n") == 2 and text.endswith("\n")


def test_repetition_penalty() -> None:
    run = toy_run()
    run.model.table.data[:, :, TOKENS.index("고")] += 8
    run.model.table.data[:, :, EOS_ID] -= 50
    with Generator(run) as generator:
        plain, penalized = (
            "".join(generator.stream("", sampling, StoppingCriteria(12, 1)))
            for sampling in (Sampling(0.0), Sampling(0.0, repetition_penalty=1e4))
        )
    assert plain.count("고") == 12 and penalized.count("고") <= 2
