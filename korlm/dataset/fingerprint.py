"""The fingerprint of a prepared corpus: a hash of its settings and input."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from typing import Any

from korlm.config import CorpusConfig, Encoding, TokenizerConfig, VocabConfig
from korlm.corpus.sources import Source, content_digest
from korlm.tokenizers.registry import tokenizer_version

FORMAT = 3  # of the folder; goes into the fingerprint


def _plain(config: Any) -> dict[str, Any]:
    """A settings dataclass as JSON can hold it."""
    plain: dict[str, Any] = json.loads(
        json.dumps(
            dataclasses.asdict(config),
            default=lambda value: value.value if isinstance(value, enum.Enum) else str(value),
        )
    )
    return plain


def _hash(value: Any) -> str:
    return _digest(json.dumps(value, sort_keys=True, ensure_ascii=True).encode())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def _token_settings(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, sources: list[Source]
) -> dict[str, Any]:
    """All that decides the tokens: text, documents, splits, tokenizer. Speed and paths do not."""
    settings: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": [tokenizer.name, tokenizer_version(tokenizer)],
        "encoding": Encoding(corpus.encoding).value,
        "layout": corpus.format.value,
        "document": corpus.document_unit.value,
        "columns": [corpus.text_column, corpus.document_column],
        "separator": corpus.separator.value,
        "quoting": corpus.quoting.value,
        "skip_without_text": corpus.skip_without_text,
        "unicode": corpus.unicode.value,
        "files": [[source.name, source.split, content_digest(source)] for source in sources],
    }
    if any(source.split is None for source in sources):
        settings["shares"] = [corpus.valid_fraction, corpus.test_fraction]
    return settings


def _vocab_key(vocab: VocabConfig) -> dict[str, Any]:
    """Return what decides the vocabulary, under the keys that fingerprints are made with."""
    return {
        "min_freq": vocab.min_freq,
        "max_size": vocab.max_size,
        "lower": vocab.lowercase,
        "numbers": vocab.normalize_numbers,
    }
