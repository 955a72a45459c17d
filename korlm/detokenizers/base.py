"""The contract of all recomposers, and those of the tokenizers that need nothing learnt.

A recomposer writes the tokens of its tokenizer as Korean text: a whole line at once (``compose``),
or one token after another (``join`` within an eojeol, ``boundary`` between eojeols).
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from korlm.dataset.vocab import EOS, NUMBER, SPECIALS
from korlm.text.hangul import show_letters, tail_of
from korlm.tokenizers.base import SPACE_SYMBOL

_BYTE = re.compile("<0x[0-9A-F]{2}>")


DIGIT = "0"  # what is written for <num>, which stands for any number


class Detokenizer(ABC):
    """Tokens of one tokenizer -> written text.

    Special tokens are never written: <eos> ends a line, <num> becomes ``0``, the others leave
    nothing behind.
    """

    def __init__(self) -> None:
        self._vocab: list[str] = []

    def compose(
        self,
        morphs: Sequence[str],
        tags: Sequence[str] | None = None,
        eojeol: Sequence[int] | None = None,
    ) -> str:
        """Written text; more than one line if <eos> stands before the end.

        Args:
            morphs: tokens, special ones among them or not.
            tags: of all tokens; None: not known.
            eojeol: of each token the number of its eojeol; None: where blanks stand is guessed.
        """
        lines: list[list[int]] = [[]]
        for index, morph in enumerate(morphs):
            if morph == EOS:
                lines.append([])
            elif morph not in SPECIALS:
                lines[-1].append(index)
        if not lines[-1]:
            lines.pop()
        return "\n".join(
            self._line(
                [_written(morphs[i]) for i in line],
                None if tags is None else [tags[i] for i in line],
                None if eojeol is None else [eojeol[i] for i in line],
            )
            for line in lines
        )

    @abstractmethod
    def _line(self, morphs: list[str], tags: list[str] | None, eojeol: list[int] | None) -> str:
        """One line, without special tokens."""

    def join(self, surface: str, left: str, right: str) -> str:
        """An eojeol so far, and one more morph.

        Args:
            surface: the eojeol so far; empty at its beginning.
            left: its last morph; empty at its beginning.
            right: the morph that is added.
        """
        if right in SPECIALS:
            return surface
        return self._join(surface, _written(left), _written(right))

    @abstractmethod
    def _join(self, surface: str, left: str, right: str) -> str:
        """The same without special tokens."""

    def boundary(self, left: str, right: str) -> float:
        """P(a blank stands between two morphs); 0 at the beginning of a line and before <eos>.

        Args:
            left: a token; empty or <eos> at the beginning of a line.
            right: the token after it.
        """
        if left in ("", EOS) or right == EOS:
            return 0.0
        return float(self._blanks(_written(left), [_written(right)])[0])

    @abstractmethod
    def _blanks(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        """P(blank) between a morph and each of the others; shape (len(rights),)."""

    def over(self, tokens: Sequence[str]) -> None:
        """Names the vocabulary for ``boundaries``; its V tokens in the order of their ids."""
        self._vocab = [_written(token) for token in tokens]

    def boundaries(self, left: str) -> npt.NDArray[np.float32]:
        """``boundary`` of a token and every one of the vocabulary; float32, shape (V,)."""
        if left in ("", EOS):
            return np.zeros(len(self._vocab), np.float32)
        blanks = self._blanks(_written(left), self._vocab)
        return np.where([token == EOS for token in self._vocab], np.float32(0), blanks)

    def num_unstable_chars(self, surface: str, left: str) -> int:
        """How many of the last characters of an eojeol another morph may still change.

        Args:
            surface: the eojeol so far.
            left: its last morph.
        """
        return 0


def _written(token: str) -> str:
    return DIGIT if token == NUMBER else token


class EojeolDetokenizer(Detokenizer):
    """Every token is an eojeol."""

    def _line(self, morphs: list[str], tags: list[str] | None, eojeol: list[int] | None) -> str:
        return " ".join(morphs)

    def _join(self, surface: str, left: str, right: str) -> str:
        return surface + right

    def _blanks(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.ones(len(rights), np.float32)


class SyllableDetokenizer(Detokenizer):
    """Every token is a character; blanks are tokens themselves, so none stands between two."""

    def _line(self, morphs: list[str], tags: list[str] | None, eojeol: list[int] | None) -> str:
        return "".join(morphs).replace(SPACE_SYMBOL, " ")

    def _join(self, surface: str, left: str, right: str) -> str:
        return surface + (" " if right == SPACE_SYMBOL else right)

    def _blanks(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.zeros(len(rights), np.float32)


class JamoDetokenizer(SyllableDetokenizer):
    """Every token is a letter or another character; NFC makes syllables of the letters.

    Conjoining jamo that make no syllable are written as letters that can be read (ㄱ).
    """

    def _line(self, morphs: list[str], tags: list[str] | None, eojeol: list[int] | None) -> str:
        return _compose_letters(super()._line(morphs, tags, eojeol))

    def _join(self, surface: str, left: str, right: str) -> str:
        if surface and left and surface[-1] == show_letters(left):
            surface = surface[:-1] + left  # a letter that was shown for want of the next one
        return _compose_letters(super()._join(surface, left, right))

    def num_unstable_chars(self, surface: str, left: str) -> int:
        """1 while the last syllable or letter may get a vowel or a tail."""
        return int(tail_of(surface[-1:]) == "" or "\u1100" <= left <= "\u1112")


class SentencePieceDetokenizer(Detokenizer):
    """Pieces of sentencepiece: a blank stands before those that begin with ▁.

    Bytes (``<0xEB>``) become characters in a whole line alone; one by one they stay as they are.
    """

    def _line(self, morphs: list[str], tags: list[str] | None, eojeol: list[int] | None) -> str:
        written = (
            bytes([int(piece[3:5], 16)]) if _BYTE.fullmatch(piece) else piece.encode()
            for piece in morphs
        )
        return (
            b"".join(written).decode(errors="replace").replace(SPACE_SYMBOL, " ").removeprefix(" ")
        )

    def _join(self, surface: str, left: str, right: str) -> str:
        return surface + right.removeprefix(SPACE_SYMBOL)

    def _blanks(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.array([right.startswith(SPACE_SYMBOL) for right in rights], np.float32)


def _compose_letters(text: str) -> str:
    return show_letters(unicodedata.normalize("NFC", text))


def breaks(eojeol: Sequence[int]) -> Iterator[bool]:
    """Whether a blank stands before each token."""
    for index, number in enumerate(eojeol):
        yield index > 0 and number != eojeol[index - 1]
