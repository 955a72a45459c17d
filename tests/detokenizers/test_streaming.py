"""Pieces of text: together the recomposed text, each of them final."""

from __future__ import annotations

import itertools
import random

import pytest
from toys import MORPHS, ToyRecomposer

from korlm.detokenizers.base import Recomposer
from korlm.detokenizers.registry import build_recomposer
from korlm.detokenizers.streaming import TextStream

LINES = [
    ("eojeol", ["나는", "학교에", "간다."], "나는 학교에 간다."),
    ("syllable", list("나는▁간다"), "나는 간다"),
    ("jamo", ["ᄀ", "ᅡ", "ᆫ", "▁", "ᄃ", "ᅡ"], "간 다"),
]


def pieces(recomposer: Recomposer, tokens: list[str]) -> list[str]:
    stream = TextStream(recomposer)
    return [*(stream.add(token) for token in tokens), stream.end()]


def eojeols_of(recomposer: Recomposer, line: list[str]) -> list[int]:
    """Of each token the number of its eojeol."""
    begins = [recomposer.boundary(a, b) > 0.5 for a, b in itertools.pairwise(line)]
    return list(itertools.accumulate(begins, initial=0))[: len(line)]


@pytest.mark.parametrize(("tokenizer", "tokens", "text"), LINES)
def test_every_tokenizer(tokenizer: str, tokens: list[str], text: str) -> None:
    assert "".join(pieces(build_recomposer(tokenizer), tokens)) == text
    assert "".join(pieces(build_recomposer(tokenizer), [*tokens, "<eos>"] * 2)) == f"{text}\n" * 2


def test_the_pieces_are_what_composing_gives() -> None:
    recomposer, dice = ToyRecomposer(), random.Random(1)
    for _ in range(200):
        tokens = dice.choices([*MORPHS, "<eos>"], k=dice.randrange(1, 12))
        found = pieces(recomposer, tokens)
        assert "".join(found) == "\n".join(
            recomposer.compose(line, None, eojeols_of(recomposer, line))
            for line in "\t".join(tokens).replace("<eos>", "\n").split("\n")
            for line in [line.split()]
        )
        assert all(piece.endswith((" ", "\n")) for piece in found[:-1] if piece)


def test_a_piece_comes_with_the_token_behind_it() -> None:
    assert pieces(build_recomposer("eojeol"), ["가", "나", "<eos>", "다"]) == [
        *("", "가 ", "나\n", ""),
        "다",
    ]


def test_an_eojeol_that_has_ended() -> None:
    recomposer = ToyRecomposer()
    assert recomposer.boundary("먹", "고") > 0.5
    recomposer._blanks = lambda left, rights: build_recomposer("syllable")._blanks(left, rights)
    begun = TextStream(recomposer, "먹", "먹")
    assert begun.add("고") == "먹 ", "it has ended, whatever the recomposer thinks"
    assert begun.add("하") == "" and begun.end() == "고하"
    assert TextStream(recomposer, "먹", "먹").add("<eos>") == "먹\n"


def test_an_eojeol_that_has_ended_before_a_blank_of_its_own() -> None:
    stream = TextStream(build_recomposer("syllable"), "는", "나는")
    assert stream.add("▁") + stream.add("가") + stream.end() == "나는 가"
