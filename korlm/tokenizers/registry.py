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

    Args:
        config: of the tokenizer.
        lines: of train (NFC); not read if there is nothing to learn.

    Raises:
        TokenizerError: the lines are not enough for what it is to learn.
    """
    if isinstance(config, WorkerConfig):
        return None
    learned: bytes | None = _class_of(config).train(config, lines)
    return learned


def build_inprocess(config: TokenizerConfig, learned: bytes | None = None) -> Tokenizer | None:
    """Return the tokenizer of the settings; None if it runs in child processes.

    Args:
        config: of the tokenizer.
        learned: what ``train_tokenizer`` returned.

    Raises:
        TokenizerError: what it learned is damaged.
    """
    if isinstance(config, WorkerConfig):
        return None
    tokenizer: Tokenizer = _class_of(config).from_config(config, learned)
    return tokenizer


def build_external(config: WorkerConfig) -> ExternalTokenizer:
    """Return the tokenizer of the settings for one thread of a worker process.

    Args:
        config: with numbers in place of null.

    Raises:
        TokenizerError: it does not start.
    """
    tokenizer: ExternalTokenizer = _class_of(config).from_config(config)
    return tokenizer


def tokenizer_version(config: TokenizerConfig) -> str:
    """Return the version of a tokenizer for fingerprints; starts nothing.

    Raises:
        TokenizerError: a package that it needs is not installed.
    """
    version: str = _class_of(config).version_of(config)
    return version
