"""Streaming: the pieces form the detokenized text, and each of them is final."""

from __future__ import annotations

import itertools
import random

import pytest
from toys import MORPHS, ToyDetokenizer

from korlm.detokenizers.base import Detokenizer
from korlm.detokenizers.registry import build_detokenizer
from korlm.detokenizers.streaming import StreamingDetokenizer

LINES = [
    ("eojeol", ["나는", "학교에", "간다."], "나는 학교에 간다."),
    ("syllable", list("나는▁간다"), "나는 간다"),
    ("jamo", ["ᄀ", "ᅡ", "ᆫ", "▁", "ᄃ", "ᅡ"], "간 다"),
]


def pieces(detokenizer: Detokenizer, tokens: list[str]) -> list[str]:
    stream = StreamingDetokenizer(detokenizer)
    return [*(stream.add(token) for token in tokens), stream.end()]


def eojeols_of(detokenizer: Detokenizer, line: list[str]) -> list[int]:
    """Return the eojeol number of each token."""
    begins = [detokenizer.space_probability(a, b) > 0.5 for a, b in itertools.pairwise(line)]
    return list(itertools.accumulate(begins, initial=0))[: len(line)]


@pytest.mark.parametrize(("tokenizer", "tokens", "text"), LINES)
def test_every_tokenizer(tokenizer: str, tokens: list[str], text: str) -> None:
    assert "".join(pieces(build_detokenizer(tokenizer), tokens)) == text
    assert "".join(pieces(build_detokenizer(tokenizer), [*tokens, "<eos>"] * 2)) == f"{text}\n" * 2


def test_pieces_equal_the_detokenized_lines() -> None:
    detokenizer, rng = ToyDetokenizer(), random.Random(1)
    for _ in range(200):
        tokens = rng.choices([*MORPHS, "<eos>"], k=rng.randrange(1, 12))
        streamed = pieces(detokenizer, tokens)
        assert "".join(streamed) == "\n".join(
            detokenizer.detokenize(line, None, eojeols_of(detokenizer, line))
            for line in "\t".join(tokens).replace("<eos>", "\n").split("\n")
            for line in [line.split()]
        )
        assert all(piece.endswith((" ", "\n")) for piece in streamed[:-1] if piece)


def test_an_eojeol_is_returned_with_the_next_token() -> None:
    assert pieces(build_detokenizer("eojeol"), ["가", "나", "<eos>", "다"]) == [
        *("", "가 ", "나\n", ""),
        "다",
    ]


def test_a_finished_eojeol() -> None:
    detokenizer = ToyDetokenizer()
    detokenizer._space_probs = lambda left, rights: build_detokenizer("syllable")._space_probs(
        left, rights
    )
    stream = StreamingDetokenizer(detokenizer, "먹", "먹")
    assert stream.add("고") == "먹 ", "a space follows, whatever its probability"
    assert stream.add("하") == "" and stream.end() == "고하"
    assert StreamingDetokenizer(detokenizer, "먹", "먹").add("<eos>") == "먹\n"


def test_a_finished_eojeol_before_a_space_token() -> None:
    stream = StreamingDetokenizer(build_detokenizer("syllable"), "는", "나는")
    assert stream.add("▁") + stream.add("가") + stream.end() == "나는 가"
