"""Kkma's morphemes and tags of texts, as features of tagging."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from korlm.detokenizers.alignment import eojeol_spans
from korlm.tokenizers.analysis import Span
from korlm.tokenizers.kkma.tagger import Kkma

NUM_TAGS = 4096  # a hash assigns each tag to a number; 0: none

# Of a character: tag of its morpheme. Of its eojeol: all tags; its first and its last morpheme,
# each with its tag. These three are hashes below 2^31; 0: none.
TAG, CHAIN, FIRST, LAST = range(4)
NUM_FEATURES = 4

Features = npt.NDArray[np.int64]


class MorphemeTags:
    """Features of characters from Kkma's morphemes.

    Kkma starts with the first text and ends with the object.
    """

    @functools.cached_property
    def _kkma(self) -> Kkma:
        return Kkma()

    def of(self, texts: Sequence[str]) -> Iterator[Features]:
        """Yield the features of the characters of each text, (characters, NUM_FEATURES)."""
        for text, tokens in zip(texts, self._kkma.tokens(texts), strict=True):
            features = np.zeros((len(text), NUM_FEATURES), dtype=np.int64)
            for _, tag, begin, end in tokens:
                for at in range(begin, end):
                    if not features[at, TAG]:  # in a contraction, that of the first morpheme
                        features[at, TAG] = _number(("I-" if at > begin else "B-") + tag)
            rest = list(tokens)[::-1]
            for begin, end in eojeol_spans(text):
                morphemes = []
                while rest and rest[-1][2] < end:
                    morphemes.append(rest.pop()[:2])
                if morphemes:
                    features[begin:end, CHAIN] = _hash("+".join(tag for _, tag in morphemes))
                    features[begin:end, FIRST] = _hash("/".join(morphemes[0]))
                    features[begin:end, LAST] = _hash("/".join(morphemes[-1]))
            yield features


def of_tokens(features: Features, spans: Sequence[Span]) -> Features:
    """Return the features of tokens, (T, NUM_FEATURES), from those of characters.

    Args:
        features: (characters, NUM_FEATURES).
        spans: characters of each token, (T - 1,); the last token is <eos>, which has none.
    """
    result = np.zeros((len(spans) + 1, NUM_FEATURES), dtype=np.int64)
    for token, (begin, end) in enumerate(spans):
        if end > begin:
            result[token] = features[begin]
    return result


@functools.cache
def _number(tag: str) -> int:
    return 1 + zlib.crc32(tag.encode()) % (NUM_TAGS - 1)


def _hash(text: str) -> int:
    return zlib.crc32(text.encode()) >> 1
