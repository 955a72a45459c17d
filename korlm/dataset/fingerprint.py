"""Compute fingerprints of prepared corpora: hashes of the settings and of the input."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any

from korlm.config import CorpusConfig, Encoding, TokenizerConfig, VocabConfig
from korlm.corpus.pieces import Piece
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.io.checksums import short_hash

FORMAT = 4  # of the folder; part of the fingerprint


def to_json_values(config: Any) -> dict[str, Any]:
    """Return the fields of a settings dataclass as values that JSON can hold."""

    def default(value: object) -> Any:
        return value.value if isinstance(value, enum.Enum) else str(value)

    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=default))
    return values


def hash_json(value: Any) -> str:
    """Return the hash of a JSON value; the order of keys does not matter."""
    return short_hash(json.dumps(value, sort_keys=True, ensure_ascii=True).encode())


def prepared_fingerprint(
    tokens_fingerprint: str | None,
    vocab: VocabConfig,
    vocab_digest: str | None = None,
    reverse: bool = False,
) -> str:
    """Return the fingerprint of a prepared corpus, given that of its tokens.

    ``vocab_digest`` is that of a vocabulary that was given, not built from the text.
    """
    vocab_key = {
        "min_freq": vocab.min_freq,
        "max_size": vocab.max_size,
        "lowercase": vocab.lowercase,
        "normalize_numbers": vocab.normalize_numbers,
    }
    key: dict[str, Any] = {"tokens": tokens_fingerprint, "vocab": vocab_key}
    if vocab_digest is not None:
        key["given_vocab"] = vocab_digest
    if reverse:
        key["reverse"] = True
    return hash_json(key)


def token_settings(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, tokenizer_model: bytes | None = None
) -> dict[str, Any]:
    """Return the settings that the tokens of a piece of a corpus depend on.

    These are the settings of documents, splits and text, the tokenizer, its version and the model
    that it is given; not paths and settings of speed. A new setting that changes documents or
    tokens must be added here: otherwise a corpus that was prepared with another value is reused.
    """
    settings: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": [tokenizer.name, tokenizer_version(tokenizer, tokenizer_model)],
        "encoding": Encoding(corpus.encoding).value,
        "layout": corpus.format.value,
        "document": corpus.document_unit.value,
        "columns": [corpus.text_column, corpus.document_column],
        "keep_columns": corpus.keep_columns,
        "separator": corpus.separator.value,
        "quoting": corpus.quoting.value,
        "skip_without_text": corpus.skip_without_text,
        "unicode": corpus.unicode.value,
        "shares": [corpus.valid_fraction, corpus.test_fraction],
    }
    if key := corpus.annotation_key:
        settings["columns"] += [key, getattr(corpus, key)]
    if tokenizer_model is not None:
        settings["tokenizer_model"] = short_hash(tokenizer_model)
    return settings


def text_settings(
    token_key: dict[str, Any], pieces: list[Piece], digests: list[str]
) -> dict[str, Any]:
    """Return all values that the tokens depend on; their hash is the fingerprint of the tokens."""
    files = [piece_settings(*pair) for pair in zip(pieces, digests, strict=True)]
    text = {**token_key, "files": files}
    if not any(source.split is None for piece in pieces for source in piece.sources):
        del text["shares"]
    return text


def piece_settings(piece: Piece, digest: str) -> list[Any]:
    """Return what the text of a piece depends on: files, their splits, range, hash of the bytes."""
    files = [[source.name, source.split] for source in piece.sources]
    return [files, piece.begin, piece.end, digest]
