"""Sentencepiece models depend on the text alone, and the text can be rebuilt from the pieces."""

import random
import unicodedata

import pytest

pytest.importorskip("sentencepiece")

from conftest import sentences

from korlm.config import SentencePieceConfig
from korlm.tokenizers.analysis import EMPTY
from korlm.tokenizers.columns import analyses_of
from korlm.tokenizers.registry import tokenizer_version, train_tokenizer
from korlm.tokenizers.subwords.sentencepiece_unigram import SentencePieceTokenizer, train_pieces
from korlm.utils.errors import ConfigError, TokenizerError

CONFIG = SentencePieceConfig(name="sentencepiece", vocab_size=60)
BYTES = SentencePieceConfig(name="sentencepiece", vocab_size=400, byte_fallback=True)
TEXT = sentences(200, 1)


@pytest.fixture(scope="module", params=[CONFIG, BYTES], ids=["plain", "bytes"])
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return SentencePieceTokenizer(request.param, train_pieces(request.param, TEXT))


def test_the_same_text_gives_the_same_model() -> None:
    model = train_tokenizer(CONFIG, TEXT)
    assert model == train_pieces(CONFIG, TEXT[::-1]) == train_pieces(CONFIG, [" \t".join(TEXT)])
    assert model != train_pieces(CONFIG, TEXT[:100])
    assert model != train_pieces(SentencePieceConfig(name="sentencepiece", vocab_size=55), TEXT)


def test_pieces() -> None:
    pieces = SentencePieceTokenizer(CONFIG, train_pieces(CONFIG, TEXT))
    results = pieces.analyze("나는  어제 학교에 뷁뷁. ")
    assert results.tags == [""] * len(results.morphs)
    assert "".join(results.morphs) == "▁나는▁어제▁학교에▁뷁뷁."
    assert "▁어" in results.morphs and "뷁뷁" in results.morphs
    assert pieces.tokenize("나는 어제") == pieces.tokenize(" 나는\t\u3000어제")


def test_text_can_be_rebuilt(tokenizer: SentencePieceTokenizer) -> None:
    rng = random.Random(5)
    odd = ["😀", "뷁", "\u200b", "\x07", "\x00", "\u1112\u119e"]
    chars = [*"나는 학교에 갔다. ▁ <unk> </s>", *odd]
    for n in range(300):
        text = unicodedata.normalize("NFC", "".join(rng.choices(chars, k=1 + n % 25)))
        results = tokenizer.analyze(text)
        if results == EMPTY:
            assert not text.strip(" \x07\x00")
            continue
        rebuilt = [b""] * len(text.split())
        assert results.eojeol == sorted(results.eojeol)
        for piece, index in zip(results.morphs, results.eojeol, strict=True):
            is_byte = tokenizer._bytes and piece.startswith("<0x")
            rebuilt[index] += bytes([int(piece[3:5], 16)]) if is_byte else piece.encode()
        assert [unit.decode() for unit in rebuilt] == ["▁" + unit for unit in text.split()]


def test_batches_are_as_single_lines(tokenizer: SentencePieceTokenizer) -> None:
    texts = [*TEXT[:5], "", " \x00", "\ud800가"]
    results = analyses_of(tokenizer.analyze_batch(texts))
    assert results == [tokenizer.analyze(text) for text in texts]
    assert results[5] == results[6] == EMPTY and "\ufffd" in "".join(results[7].morphs) + "\ufffd"


def test_bytes_of_characters_without_a_piece() -> None:
    pieces = SentencePieceTokenizer(BYTES, train_pieces(BYTES, TEXT)).analyze("나는 뷁")
    assert pieces.morphs == ["▁", "나", "는", "▁", "<0xEB>", "<0xB7>", "<0x81>"]
    assert pieces.eojeol == [0, 0, 0, 1, 1, 1, 1]


def test_versions() -> None:
    version = tokenizer_version(CONFIG)
    assert version.endswith("unigram 60, coverage 0.9995")
    assert tokenizer_version(BYTES).endswith("unigram 400, coverage 0.9995, bytes")


def test_too_few_pieces() -> None:
    config = SentencePieceConfig(name="sentencepiece", vocab_size=10)
    with pytest.raises(TokenizerError, match=r"tokenizer\.vocab_size=10: ") as caught:
        train_pieces(config, TEXT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x00" * 100])
def test_a_damaged_model(damage: bytes) -> None:
    with pytest.raises(TokenizerError, match="the sentencepiece model is damaged"):
        SentencePieceTokenizer(CONFIG, damage)


@pytest.mark.parametrize(
    ("key", "value"), [("vocab_size", 0), ("character_coverage", 0.9), ("character_coverage", 1.5)]
)
def test_settings_out_of_range(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"tokenizer\.{key}={value}"):
        SentencePieceConfig(name="sentencepiece", **{key: value})  # type: ignore[arg-type]
