"""The tokenizer of the settings, what it must learn first, what tells two versions of it apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from korlm.config import JavaConfig, KkmaConfig, SentencePieceConfig, TokenizerConfig, WorkerConfig
from korlm.tokenizers.base import Tokenizer
from korlm.tokenizers.characters import JamoTokenizer, SyllableTokenizer
from korlm.tokenizers.kiwi import ANALYZERS, native_version
from korlm.tokenizers.kkma import KkmaTokenizer, kkma_version
from korlm.tokenizers.konlpy_taggers import TAGGERS, tagger_version
from korlm.tokenizers.sentencepiece_unigram import (
    SentencePieceTokenizer,
    pieces_version,
    train_pieces,
)
from korlm.tokenizers.whitespace import EojeolTokenizer
from korlm.tokenizers.workers.external import ExternalTokenizer

_PLAIN: dict[str, Callable[[], Tokenizer]] = {
    "eojeol": EojeolTokenizer,
    "syllable": SyllableTokenizer,
    "jamo": JamoTokenizer,
}


def train_tokenizer(config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
    """What a tokenizer must learn from train before it can work; None where it is nothing.

    Args:
        config: of the tokenizer.
        lines: of train (NFC); not read if there is nothing to learn.

    Raises:
        TokenizerError: the lines are not enough for what it is to learn.
    """
    return train_pieces(config, lines) if isinstance(config, SentencePieceConfig) else None


def build_inprocess(
    config: TokenizerConfig, tokenizer_model: bytes | None = None
) -> Tokenizer | None:
    """The tokenizer of the settings, if it needs no process of its own.

    Args:
        config: of the tokenizer.
        tokenizer_model: what ``train_tokenizer`` returned.

    Raises:
        TokenizerError: the tokenizer model is damaged.
    """
    if isinstance(config, SentencePieceConfig):
        assert tokenizer_model is not None
        return SentencePieceTokenizer(config, tokenizer_model)
    make = _PLAIN.get(config.name)
    return make() if make else None


def build_external(config: WorkerConfig) -> ExternalTokenizer:
    """The tokenizer of the settings for one thread of a worker process.

    Args:
        config: with numbers in the place of null.

    Raises:
        TokenizerError: it does not start.
    """
    if isinstance(config, KkmaConfig):
        return KkmaTokenizer(config)
    version = tokenizer_version(config)
    if isinstance(config, JavaConfig):
        return ExternalTokenizer(config.name, version, TAGGERS[config.name](config))
    return ExternalTokenizer(config.name, version, ANALYZERS[config.name](config))


def tokenizer_version(config: TokenizerConfig) -> str:
    """What tells two versions of a tokenizer apart, for fingerprints; starts nothing.

    Raises:
        TokenizerError: a package that it needs is not installed.
    """
    if isinstance(config, KkmaConfig):
        return kkma_version(config)
    if isinstance(config, JavaConfig):
        return tagger_version(config)
    if isinstance(config, WorkerConfig):
        return native_version(config)
    if isinstance(config, SentencePieceConfig):
        return pieces_version(config)
    return _PLAIN[config.name]().version
