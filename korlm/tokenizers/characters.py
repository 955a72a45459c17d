"""Tokenize into syllables or jamo."""

from __future__ import annotations

from korlm.text.hangul import decompose
from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.base import SPACE_SYMBOL, InProcessTokenizer
from korlm.tokenizers.offsets import eojeol_of


class SyllableTokenizer(InProcessTokenizer):
    """Splits text into characters, which in Korean are mostly syllables; white space becomes ``▁``.

    The text can be restored from the tokens, except for the kind of its white space.

    >>> SyllableTokenizer().tokenize("나는 간다")
    ['나', '는', '▁', '간', '다']
    """

    name = "syllable"

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        if is_blank(text):
            return EMPTY
        morphs = [SPACE_SYMBOL if c.isspace() else c for c in text]
        return Analysis(morphs, [""] * len(morphs), eojeol_of(text))


class JamoTokenizer(InProcessTokenizer):
    """Splits text into characters, and Hangul syllables into their two or three conjoining jamo.

    As in Unicode's NFD, initial and final consonants are different code points. Therefore the NFC
    of the joined tokens is the text, except for the kind of its white space. Compatibility jamo
    (ㅋㅋ) are not changed.

    >>> JamoTokenizer().tokenize("간 ㅋ")
    ['ᄀ', 'ᅡ', 'ᆫ', '▁', 'ㅋ']
    """

    name = "jamo"

    def analyze(self, text: str) -> Analysis:
        """Return the tokens of one line."""
        syllables = SyllableTokenizer().analyze(text)
        morphs: list[str] = []
        eojeol: list[int] = []
        for syllable, index in zip(syllables.morphs, syllables.eojeol, strict=True):
            jamo = decompose(syllable)
            morphs += jamo
            eojeol += [index] * len(jamo)
        return Analysis(morphs, [""] * len(morphs), eojeol, syllables.status)
