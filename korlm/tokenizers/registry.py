"""Build, train and version the tokenizer that the settings name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from korlm.config import TokenizerConfig, WorkerConfig, registry
from korlm.tokenizers.base import InProcessTokenizer
from korlm.tokenizers.workers.external import LineAnalyzer


def _class_of(config: TokenizerConfig) -> Any:
    """Return the registered class, a ``LineAnalyzer`` or the like for workers, else a tokenizer."""
    return registry.builder("tokenizer", config.name)


def train_tokenizer(config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
    """Return what a tokenizer learns from train before it can tokenize; None if it learns nothing.

    For Kkma these are the words of the user dictionary, and for a tokenizer that is given as a file
    its bytes.

    ``lines`` (NFC) of train are not read if there is nothing to learn.

    Raises:
        TokenizerError: there is too little text to learn from, or a file cannot be read.
    """
    tokenizer_model: bytes | None = _class_of(config).train(config, lines)
    return tokenizer_model


def build_inprocess(
    config: TokenizerConfig, tokenizer_model: bytes | None = None
) -> InProcessTokenizer | None:
    """Build the tokenizer of the settings; return None if it runs in child processes.

    Raises:
        TokenizerError: the tokenizer model is damaged.
    """
    if isinstance(config, WorkerConfig):
        return None
    tokenizer: InProcessTokenizer = _class_of(config).from_config(config, tokenizer_model)
    return tokenizer


def build_external(config: WorkerConfig, tokenizer_model: bytes | None = None) -> LineAnalyzer:
    """Build the tokenizer of the settings for one thread of a worker process.

    The settings must have no null (``with_defaults``).

    Raises:
        TokenizerError: the tokenizer does not start.
    """
    analyzer: LineAnalyzer = _class_of(config).from_config(config, tokenizer_model)
    return analyzer


def tokenizer_version(config: TokenizerConfig, tokenizer_model: bytes | None = None) -> str:
    """Return the version of a tokenizer, for fingerprints, without starting it.

    If ``tokenizer_model``, the result of ``train_tokenizer``, is given, files are not read again.

    Raises:
        TokenizerError: a package that it needs is not installed, or a file cannot be read.
    """
    version: str = _class_of(config).version_of(config, tokenizer_model)
    return version
