"""Define the detokenizer contract, and the detokenizers that need no training.

A detokenizer spells the tokens of its tokenizer as Korean text: a whole line (``detokenize``), or
token by token for generation (``join`` within an eojeol, ``space_probability`` between tokens).
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from korlm.dataset.vocab import EOS, NUMBER, SPECIALS
from korlm.text.hangul import tail_of, to_compatibility_jamo
from korlm.tokenizers.base import SPACE_SYMBOL

NUMBER_TEXT = "0"  # written for <num>, which represents any number

_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Detokenizer(ABC):
    """Converts tokens of one tokenizer to written text.

    Special tokens are not written: <eos> ends a line, <num> becomes ``0``, the others are dropped.

    Attributes:
        joins_morphemes: whether tokens are morphemes, so that particles are separate tokens.
    """

    joins_morphemes: ClassVar[bool] = False

    def __init__(self) -> None:
        self.set_vocab([])

    @classmethod
    def from_model(cls, model: bytes | None) -> Detokenizer:
        """Return the detokenizer of a tokenizer."""
        return cls()

    def detokenize(
        self,
        tokens: Sequence[str],
        tags: Sequence[str] | None = None,
        eojeol: Sequence[int] | None = None,
    ) -> str:
        """Return the text of a sequence of tokens; <eos> starts another line, except at the end.

        Tags and eojeol indices of the tokens may be unknown; without indices, spaces are predicted.
        """
        lines: list[list[int]] = [[]]
        for index, token in enumerate(tokens):
            if token == EOS:
                lines.append([])
            elif token not in SPECIALS:
                lines[-1].append(index)
        if not lines[-1]:
            lines.pop()
        return "\n".join(
            self._detokenize_line(
                [_spelling(tokens[i]) for i in line],
                None if tags is None else [tags[i] for i in line],
                None if eojeol is None else [eojeol[i] for i in line],
            )
            for line in lines
        )

    @abstractmethod
    def _detokenize_line(
        self, tokens: list[str], tags: list[str] | None, eojeol: list[int] | None
    ) -> str:
        """Implement ``detokenize`` for one line without special tokens."""

    def join(self, surface: str, left: str, right: str) -> str:
        """Return the surface (written form) of an eojeol after one more token.

        ``left`` is the last token of the eojeol; it and the surface are empty at its beginning.
        """
        if right in SPECIALS:
            return surface
        return self._join(surface, _spelling(left), _spelling(right))

    @abstractmethod
    def _join(self, surface: str, left: str, right: str) -> str:
        """Implement ``join`` without special tokens."""

    def space_probability(self, left: str, right: str) -> float:
        """Return the probability of a space between two tokens; 0 at a line's beginning and end.

        ``left`` is empty or <eos> at the beginning of a line.
        """
        if left in ("", EOS) or right == EOS:
            return 0.0
        return float(self._space_probs(_spelling(left), [_spelling(right)])[0])

    @abstractmethod
    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return P(space) between a token and each of ``rights``, (len(rights),)."""

    def set_vocab(self, tokens: Sequence[str]) -> None:
        """Set the vocabulary of ``space_probabilities``: V tokens in the order of their ids."""
        self._vocab = [_spelling(token) for token in tokens]
        self._is_eos = np.array([token == EOS for token in tokens], dtype=bool)

    def space_probabilities(self, left: str) -> npt.NDArray[np.float32]:
        """Return ``space_probability`` of a token and each token of the vocabulary, (V,)."""
        if left in ("", EOS):
            return np.zeros(len(self._vocab), np.float32)
        return np.where(self._is_eos, np.float32(0), self._vocab_space_probs(_spelling(left)))

    def _vocab_space_probs(self, left: str) -> npt.NDArray[np.float32]:
        """Return P(space) between a token and each token of the vocabulary, (V,).

        The value for <eos> is not used.
        """
        return self._space_probs(left, self._vocab)

    def num_unstable_chars(self, surface: str, left: str) -> int:
        """Return how many of the last characters of an eojeol the next token may change."""
        return 0


def _spelling(token: str) -> str:
    return NUMBER_TEXT if token == NUMBER else token


class EojeolDetokenizer(Detokenizer):
    """Detokenizer of whole eojeols: a space between any two tokens."""

    def _detokenize_line(
        self, tokens: list[str], tags: list[str] | None, eojeol: list[int] | None
    ) -> str:
        return " ".join(tokens)

    def _join(self, surface: str, left: str, right: str) -> str:
        return surface + right

    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.ones(len(rights), np.float32)


class SyllableDetokenizer(Detokenizer):
    """Detokenizer of characters. Spaces are tokens, so no other spaces are inserted."""

    def _detokenize_line(
        self, tokens: list[str], tags: list[str] | None, eojeol: list[int] | None
    ) -> str:
        return "".join(tokens).replace(SPACE_SYMBOL, " ")

    def _join(self, surface: str, left: str, right: str) -> str:
        return surface + (" " if right == SPACE_SYMBOL else right)

    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.zeros(len(rights), np.float32)


class JamoDetokenizer(SyllableDetokenizer):
    """Detokenizer of conjoining jamo, composed into syllables by NFC.

    Conjoining jamo that form no syllable are written as compatibility jamo (ㄱ).
    """

    def _detokenize_line(
        self, tokens: list[str], tags: list[str] | None, eojeol: list[int] | None
    ) -> str:
        return _compose_jamo(super()._detokenize_line(tokens, tags, eojeol))

    def _join(self, surface: str, left: str, right: str) -> str:
        if surface and left and surface[-1] == to_compatibility_jamo(left):
            surface = surface[:-1] + left  # back to the conjoining jamo, which NFC can compose
        return _compose_jamo(super()._join(surface, left, right))

    def num_unstable_chars(self, surface: str, left: str) -> int:
        """Return 1 while the last syllable or jamo may get a vowel or a final consonant."""
        return int(tail_of(surface[-1:]) == "" or "\u1100" <= left <= "\u1112")


class SentencePieceDetokenizer(Detokenizer):
    """Detokenizer of sentencepiece: a space before each piece that starts with ▁.

    Only ``detokenize`` decodes byte pieces (``<0xEB>``); ``join`` leaves them as they are.
    """

    def _detokenize_line(
        self, tokens: list[str], tags: list[str] | None, eojeol: list[int] | None
    ) -> str:
        encoded = b"".join(
            bytes([int(piece[3:5], 16)]) if _BYTE.fullmatch(piece) else piece.encode()
            for piece in tokens
        )
        return encoded.decode(errors="replace").replace(SPACE_SYMBOL, " ").removeprefix(" ")

    def _join(self, surface: str, left: str, right: str) -> str:
        return surface + right.removeprefix(SPACE_SYMBOL)

    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([right.startswith(SPACE_SYMBOL) for right in rights], np.float32)


def _compose_jamo(text: str) -> str:
    return to_compatibility_jamo(unicodedata.normalize("NFC", text))


class StreamingDetokenizer:
    r"""Detokenizes one token after another, eojeol by eojeol.

    Args:
        detokenizer: the detokenizer of the run's tokenizer.
        last_token: last token of ``surface``.
        surface: a finished eojeol, already written except for the space that may follow it.

    >>> from korlm.detokenizers.registry import build_detokenizer
    >>> stream = StreamingDetokenizer(build_detokenizer("eojeol"))
    >>> [stream.add(token) for token in ("나는", "간다.", "<eos>", "너는")], stream.end()
    (['', '나는 ', '간다.\n', ''], '너는')
    """

    def __init__(self, detokenizer: Detokenizer, last_token: str = "", surface: str = "") -> None:
        self._detokenizer = detokenizer
        self._last_token, self._surface, self._is_finished = last_token, surface, bool(surface)

    def add(self, token: str) -> str:
        """Add a token, and return the text that no later token can change any more; often ""."""
        if token == EOS:
            return self.end() + "\n"
        text = ""
        if self._surface and self._starts_eojeol(token):
            text, self._surface = self._surface + " ", ""
        left = self._last_token if self._surface else ""
        self._surface = self._detokenizer.join(self._surface, left, token)
        self._last_token, self._is_finished = token, False
        # A surface contains spaces if the tokenizer has space tokens.
        end = self._surface.rfind(" ") + 1
        text, self._surface = text + self._surface[:end], self._surface[end:]
        return text

    def _starts_eojeol(self, token: str) -> bool:
        if self._is_finished:
            return not self._detokenizer.join("", "", token).isspace()
        return self._detokenizer.space_probability(self._last_token, token) > 0.5

    def end(self) -> str:
        """Return the remaining text; the next token starts a new line."""
        text, self._surface, self._is_finished = self._surface, "", False
        return text
