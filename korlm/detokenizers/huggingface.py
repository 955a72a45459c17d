"""Detokenizer of Hugging Face's tokenizers, by the decoder that the tokenizer.json names."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from korlm.detokenizers.base import Detokenizer
from korlm.tokenizers.subwords.huggingface import load_tokenizer

PROBE = "a"  # a token that every kind of decoder writes as it is


class HuggingFaceDetokenizer(Detokenizer):
    """Detokenizer of a tokenizer.json.

    Lines are written by the decoder. Token by token, a space is before those tokens that the
    decoder writes with one after another token; parts of a character (byte-level models) are
    joined by ``detokenize`` only.

    Raises:
        MissingPackageError: the package tokenizers is not installed.
        TokenizerError: the file is damaged.
    """

    def __init__(self, model: bytes) -> None:
        self._decoder = load_tokenizer(model).decoder
        self._after_probe = functools.lru_cache(maxsize=1 << 18)(self._decode_after_probe)
        super().__init__()

    @classmethod
    def from_model(cls, model: bytes | None) -> Detokenizer:
        """See ``Detokenizer.from_model``."""
        assert model is not None
        return cls(model)

    def _decode(self, tokens: list[str]) -> str:
        return " ".join(tokens) if self._decoder is None else str(self._decoder.decode(tokens))

    def _decode_after_probe(self, token: str) -> str:
        return self._decode([PROBE, token]).removeprefix(PROBE)

    def _detokenize_line(
        self, tokens: list[str], tags: list[str] | None, eojeol: list[int] | None
    ) -> str:
        return self._decode(tokens).strip()

    def _join(self, surface: str, left: str, right: str) -> str:
        return surface + self._after_probe(right).removeprefix(" ")

    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([self._after_probe(right).startswith(" ") for right in rights], np.float32)

    def _vocab_space_probs(self, left: str) -> npt.NDArray[np.float32]:
        return self._of_vocab

    @functools.cached_property
    def _of_vocab(self) -> npt.NDArray[np.float32]:
        return self._space_probs("", self._vocab)
