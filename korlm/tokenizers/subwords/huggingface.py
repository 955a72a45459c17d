"""Tokenizers of Hugging Face (package tokenizers), given as a file ``tokenizer.json``.

The file is data: it names a normalizer, a pre-tokenizer, a model with its vocabulary, and a decoder
of this package. Tokens are those of ``Tokenizer.encode(line, add_special_tokens=False)``. Text for
which the model has no token is kept as written instead of becoming ``[UNK]``: its spelling counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from korlm.config import HuggingFaceConfig, TokenizerConfig
from korlm.text.unicode import is_blank, replace_lone_surrogates
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import InProcessTokenizer
from korlm.tokenizers.offsets import analysis_of, trimmed
from korlm.tokenizers.subwords.given_file import digest_of, read_tokenizer_file
from korlm.utils.errors import TokenizerError, require_extra
from korlm.utils.packages import package_version

VERSION = 1


def load_tokenizer(content: bytes) -> Any:
    """Return the ``tokenizers.Tokenizer`` of a tokenizer.json.

    Raises:
        MissingPackageError: the package tokenizers is not installed.
        TokenizerError: the file is damaged, or of another kind.
    """
    with require_extra("tokenizers"):
        import tokenizers
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        tokenizer.encode("가 a", add_special_tokens=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # A panic in Rust is not an Exception.
        raise TokenizerError(
            "the tokenizer.json is damaged, or a file of another kind "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class HuggingFaceTokenizer(InProcessTokenizer):
    """A tokenizer of Hugging Face.

    Raises:
        MissingPackageError: the package tokenizers is not installed.
        TokenizerError: the file is damaged, or of another kind.
    """

    name = "huggingface"

    def __init__(self, model: bytes) -> None:
        self._tokenizer = load_tokenizer(model)
        self._unknown = _unknown_token(model)

    @classmethod
    def from_config(
        cls, config: TokenizerConfig, learned: bytes | None = None
    ) -> InProcessTokenizer:
        """See ``InProcessTokenizer.from_config``."""
        assert learned is not None
        return cls(learned)

    @classmethod
    def train(cls, config: TokenizerConfig, lines: Iterable[str]) -> bytes | None:
        """Return the content of the file."""
        model = _read(config)
        cls(model)  # a damaged file is refused before any text is read
        return model

    @classmethod
    def version_of(cls, config: TokenizerConfig, learned: bytes | None = None) -> str:
        """Return the version of the package tokenizers and the digest of the file.

        Raises:
            TokenizerError: the package is not installed, or the file cannot be read.
        """
        digest = digest_of(_read(config) if learned is None else learned)
        return f"{VERSION}, tokenizers {package_version('tokenizers', config.name)}, {digest}"

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        if is_blank(text):
            return EMPTY
        text = " ".join(replace_lone_surrogates(text).split())
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        spans = [trimmed(text, *offsets) for offsets in encoded.offsets]
        tokens = [
            text[begin:end] or token if token == self._unknown else token
            for token, (begin, end) in zip(encoded.tokens, spans, strict=True)
        ]
        return analysis_of(text, tokens, [""] * len(tokens), spans)


def _read(config: TokenizerConfig) -> bytes:
    assert isinstance(config, HuggingFaceConfig)
    if config.file is None:
        raise TokenizerError("tokenizer=huggingface: give tokenizer.file=tokenizer.json")
    return read_tokenizer_file(config.file)


def _unknown_token(model: bytes) -> str | None:
    """Return the token that stands for anything unknown; None if there is none."""
    described = json.loads(model)["model"]
    number = described.get("unk_id")
    if number is not None:  # of a unigram model, whose vocabulary is a list of (token, score)
        return str(described["vocab"][number][0])
    token: str | None = described.get("unk_token")
    return token
