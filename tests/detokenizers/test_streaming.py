"""Pieces of text: together the recomposed text, each of them final."""

from __future__ import annotations

import itertools
import random

import pytest
from toys import MORPHS, ToyRecomposer

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
    """Of each token the number of its eojeol."""
    begins = [detokenizer.boundary(a, b) > 0.5 for a, b in itertools.pairwise(line)]
    return list(itertools.accumulate(begins, initial=0))[: len(line)]


@pytest.mark.parametrize(("tokenizer", "tokens", "text"), LINES)
def test_every_tokenizer(tokenizer: str, tokens: list[str], text: str) -> None:
    assert "".join(pieces(build_detokenizer(tokenizer), tokens)) == text
    assert "".join(pieces(build_detokenizer(tokenizer), [*tokens, "<eos>"] * 2)) == f"{text}\n" * 2


def test_the_pieces_are_what_composing_gives() -> None:
    detokenizer, dice = ToyRecomposer(), random.Random(1)
    for _ in range(200):
        tokens = dice.choices([*MORPHS, "<eos>"], k=dice.randrange(1, 12))
        found = pieces(detokenizer, tokens)
        assert "".join(found) == "\n".join(
            detokenizer.compose(line, None, eojeols_of(detokenizer, line))
            for line in "\t".join(tokens).replace("<eos>", "\n").split("\n")
            for line in [line.split()]
        )
        assert all(piece.endswith((" ", "\n")) for piece in found[:-1] if piece)


def test_a_piece_comes_with_the_token_behind_it() -> None:
    assert pieces(build_detokenizer("eojeol"), ["가", "나", "<eos>", "다"]) == [
        *("", "가 ", "나\n", ""),
        "다",
    ]


def test_an_eojeol_that_has_ended() -> None:
    detokenizer = ToyRecomposer()
    assert detokenizer.boundary("먹", "고") > 0.5
    detokenizer._blanks = lambda left, rights: build_detokenizer("syllable")._blanks(left, rights)
    begun = StreamingDetokenizer(detokenizer, "먹", "먹")
    assert begun.add("고") == "먹 ", "it has ended, whatever the recomposer thinks"
    assert begun.add("하") == "" and begun.end() == "고하"
    assert StreamingDetokenizer(detokenizer, "먹", "먹").add("<eos>") == "먹\n"


def test_an_eojeol_that_has_ended_before_a_blank_of_its_own() -> None:
    stream = StreamingDetokenizer(build_detokenizer("syllable"), "는", "나는")
    assert stream.add("▁") + stream.add("가") + stream.end() == "나는 가"
