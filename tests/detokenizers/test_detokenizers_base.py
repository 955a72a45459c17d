"""The contract of all detokenizers, and the round trip of simple tokenizers."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest
from analysed import LINES, analysis, samples
from conftest import sentences
from toys import MORPHS as TOY_MORPHS
from toys import ToyDetokenizer

from korlm.dataset.vocab import EOS, NUMBER, SPECIALS
from korlm.detokenizers.base import Detokenizer, JamoDetokenizer, StreamingDetokenizer
from korlm.detokenizers.kkma.training import train_detokenizer
from korlm.detokenizers.registry import build_detokenizer
from korlm.tokenizers.base import InProcessTokenizer
from korlm.tokenizers.text_units import EojeolTokenizer, JamoTokenizer, SyllableTokenizer

NAMES = ["kkma", "eojeol", "syllable", "jamo", "sentencepiece"]
SIMPLE: list[InProcessTokenizer] = [EojeolTokenizer(), SyllableTokenizer(), JamoTokenizer()]
CONJOINING = re.compile("[\u1100-\u11ff]")
JAMO = [
    chr(code)
    for first, last in ((0x1100, 0x1113), (0x1161, 0x1176), (0x11A8, 0x11C3))
    for code in range(first, last)
]
MORPHS = [
    *sorted({m for _, eojeols in LINES for m in analysis(eojeols).morphs}),
    *("ㄴ", "ㄹ", "ㅁ", "ㅂ니다", "이", "었", "아", "여", "에요", "3", "KBS", "ㅋㅋ", "…", "▁"),
]


def tokens_of(detokenizer: Detokenizer) -> list[str]:
    return MORPHS + JAMO if isinstance(detokenizer, JamoDetokenizer) else MORPHS


@pytest.fixture(scope="module", params=NAMES)
def detokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Detokenizer:
    if request.param == "kkma":
        return train_detokenizer(samples(tmp_path_factory.mktemp("text") / "prepared"))
    return build_detokenizer(request.param)


@pytest.mark.parametrize("tokenizer", SIMPLE, ids=lambda t: t.name)
@pytest.mark.parametrize(
    "text", [*sentences(20, 1), "  값진  ㅋㅋ 3.5%\u3000韓國 ", "각 ᆨ", "뷁 ㄱㅏ é"]
)
def test_detokenized_text_equals_the_original_except_for_spaces(
    tokenizer: InProcessTokenizer, text: str
) -> None:
    detokenizer = build_detokenizer(tokenizer.name)
    tokens = tokenizer.analyze(text)
    written = detokenizer.detokenize(tokens.morphs, tokens.tags, tokens.eojeol)
    if not CONJOINING.search(text):
        assert written.split() == text.split()
    assert detokenizer.detokenize(tokens.morphs) == written


def test_sentencepiece() -> None:
    pieces = build_detokenizer("sentencepiece")
    assert pieces.detokenize(["▁나는", "▁", "뷁", "▁학교", "에", "."]) == "나는 뷁 학교에."
    assert pieces.detokenize(["▁", "<0xEB>", "<0xB7>", "<0x81>", "▁간다"]) == "뷁 간다"
    assert pieces.detokenize(["가", "<0xEB>"]) == "가\ufffd"
    assert (
        pieces.space_probability("▁나는", "▁학교") == 1
        and pieces.space_probability("▁학교", "에") == 0
    )
    assert pieces.join("", "", "▁학교") == "학교" and pieces.join("학교", "▁학교", "에") == "학교에"


def test_conjoining_jamo_and_special_tokens_are_never_written(detokenizer: Detokenizer) -> None:
    rng = random.Random(0)
    tokens = [*tokens_of(detokenizer), *SPECIALS, NUMBER]
    for _ in range(200):
        text = detokenizer.detokenize(rng.choices(tokens, k=rng.randint(0, 12)))
        assert not any(special in text for special in (*SPECIALS, NUMBER))
        assert not CONJOINING.search(text)


def test_incomplete_jamo_are_compatibility_letters() -> None:
    detokenizer = build_detokenizer("jamo")
    assert detokenizer.detokenize(["\u1100", "\u1100", "\u1161", "\u11ab", "\u1161"]) == "ㄱ간ㅏ"
    assert not CONJOINING.search(detokenizer.detokenize(JAMO))


@pytest.mark.parametrize("text", sentences(10, 2))
def test_jamo_joined_one_by_one(text: str) -> None:
    detokenizer = build_detokenizer("jamo")
    surface = left = ""
    for letter in JamoTokenizer().tokenize(text):
        stable = len(surface) - detokenizer.num_unstable_chars(surface, left)
        after = detokenizer.join(surface, left, letter)
        assert after[:stable] == surface[:stable]
        surface, left = after, letter
    assert surface == text


def test_join_never_changes_stable_characters(detokenizer: Detokenizer) -> None:
    rng = random.Random(1)
    for _ in range(300):
        surface = left = ""
        for _ in range(6):
            right = rng.choice(tokens_of(detokenizer))
            after = detokenizer.join(surface, left, right)
            stable = len(surface) - detokenizer.num_unstable_chars(surface, left)
            assert 0 <= stable <= len(surface) and after[:stable] == surface[:stable]
            surface, left = after, right


def test_special_tokens_add_nothing(detokenizer: Detokenizer) -> None:
    for special in SPECIALS:
        assert detokenizer.join("학교", "학교", special) == "학교"
    assert detokenizer.detokenize([EOS]) == ""
    assert detokenizer.detokenize(["<unk>", "학교", EOS, "책"]) == "학교\n책"
    assert detokenizer.detokenize([NUMBER]) == "0"


def test_space_probabilities_over_the_vocabulary(detokenizer: Detokenizer) -> None:
    tokens = [*SPECIALS, NUMBER, *MORPHS]
    detokenizer.set_vocab(tokens)
    for left in ("", "는", "학교", "없던말", EOS, NUMBER):
        probs = detokenizer.space_probabilities(left)
        assert probs.shape == (len(tokens),)
        assert probs.dtype == np.float32
        np.testing.assert_allclose(
            probs, [detokenizer.space_probability(left, t) for t in tokens], rtol=1e-6
        )
        assert ((probs >= 0) & (probs <= 1)).all()
    assert detokenizer.space_probabilities("").max() == 0


def test_detokenize_equals_repeated_join(tmp_path: Path) -> None:
    detokenizer = train_detokenizer(samples(tmp_path))
    for text, eojeols in LINES:
        tokens = analysis(eojeols)
        surface = left = ""
        for right in tokens.morphs:
            if left and detokenizer.space_probability(left, right) > 0.5:
                surface, left = surface + " ", ""
            word = surface.rpartition(" ")[2]
            surface = surface[: len(surface) - len(word)] + detokenizer.join(word, left, right)
            left = right
        assert surface == detokenizer.detokenize(tokens.morphs) == text


STREAMED = [
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


@pytest.mark.parametrize(("tokenizer", "tokens", "text"), STREAMED)
def test_every_tokenizer(tokenizer: str, tokens: list[str], text: str) -> None:
    assert "".join(pieces(build_detokenizer(tokenizer), tokens)) == text
    assert "".join(pieces(build_detokenizer(tokenizer), [*tokens, "<eos>"] * 2)) == f"{text}\n" * 2


def test_pieces_equal_the_detokenized_lines() -> None:
    detokenizer, rng = ToyDetokenizer(), random.Random(1)
    for _ in range(200):
        tokens = rng.choices([*TOY_MORPHS, "<eos>"], k=rng.randrange(1, 12))
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
