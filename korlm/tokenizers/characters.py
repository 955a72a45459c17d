"""Syllables and jamo as tokens."""

from __future__ import annotations

from korlm.text.hangul import decompose
from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import SPACE_SYMBOL, InProcessTokenizer
from korlm.tokenizers.offsets import eojeol_of


class SyllableTokenizer(InProcessTokenizer):
    """Characters, which in Korean are mostly syllables; white space becomes ``▁``.

    Text can be rebuilt but for the kind of its blanks.

    >>> SyllableTokenizer().tokenize("나는 간다")
    ['나', '는', '▁', '간', '다']
    """

    name = "syllable"

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        if is_blank(text):
            return EMPTY
        morphs = [SPACE_SYMBOL if c.isspace() else c for c in text]
        return Analysis(morphs, [""] * len(morphs), eojeol_of(text))


class JamoTokenizer(InProcessTokenizer):
    """Letters: as syllables, but each Hangul syllable becomes its two or three conjoining jamo.

    They stand in the code points of Unicode's NFD, where the consonant that begins a syllable is
    another letter than the same one at its end. So NFC of all tokens in a row is the text again,
    but for the kind of its blanks; letters that were written one by one (ㅋㅋ) stay as they are.

    >>> JamoTokenizer().tokenize("간 ㅋ")
    ['ᄀ', 'ᅡ', 'ᆫ', '▁', 'ㅋ']
    """

    name = "jamo"

    def analyze(self, text: str) -> Analysis:
        """The tokens of one line."""
        whole = SyllableTokenizer().analyze(text)
        letters = [decompose(token) for token in whole.morphs]
        morphs = [letter for parts in letters for letter in parts]
        eojeol = [at for at, parts in zip(whole.eojeol, letters, strict=True) for _ in parts]
        return Analysis(morphs, [""] * len(morphs), eojeol, whole.status)
