"""Settings -> tokenizer: what is built from them, trained first, and part of fingerprints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from korlm.config import TokenizerConfig, WorkerConfig, registry
from korlm.tokenizers.base import Tokenizer
from korlm.tokenizers.workers.external import ExternalTokenizer


def _class_of(config: TokenizerConfig) -> Any:
    """Return the registered class: of tokenizers in workers an analyzer, else a tokenizer."""
    return registry.builder("tokenizer", config.name)


def train_tokenizer(config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
    """Return what a tokenizer learns from train before it can tokenize; None if nothing.

    For Kkma these are the words of the user dictionary, and for a tokenizer that is given as a file
    its bytes.

    Args:
        config: of the tokenizer.
        lines: of train (NFC); not read if there is nothing to learn.

    Raises:
        TokenizerError: the lines are not enough for what it is to learn, or a file cannot be read.
    """
    tokenizer_model: bytes | None = _class_of(config).train(config, lines)
    return tokenizer_model


def build_inprocess(
    config: TokenizerConfig, tokenizer_model: bytes | None = None
) -> Tokenizer | None:
    """Return the tokenizer of the settings; None if it runs in child processes.

    Args:
        config: of the tokenizer.
        tokenizer_model: what ``train_tokenizer`` returned.

    Raises:
        TokenizerError: the tokenizer model is damaged.
    """
    if isinstance(config, WorkerConfig):
        return None
    tokenizer: Tokenizer = _class_of(config).from_config(config, tokenizer_model)
    return tokenizer


def build_external(config: WorkerConfig, tokenizer_model: bytes | None = None) -> ExternalTokenizer:
    """Return the tokenizer of the settings for one thread of a worker process.

    Args:
        config: with numbers in place of null.
        tokenizer_model: what ``train_tokenizer`` returned.

    Raises:
        TokenizerError: it does not start.
    """
    tokenizer: ExternalTokenizer = _class_of(config).from_config(config, tokenizer_model)
    return tokenizer


def tokenizer_version(config: TokenizerConfig, tokenizer_model: bytes | None = None) -> str:
    """Return the version of a tokenizer for fingerprints; starts nothing.

    Args:
        config: settings of the tokenizer.
        tokenizer_model: what ``train_tokenizer`` returned, if it is known: files are then not read
            again.

    Raises:
        TokenizerError: a package that it needs is not installed, or a file cannot be read.
    """
    version: str = _class_of(config).version_of(config, tokenizer_model)
    return version
