"""Part-of-speech tags of the characters of texts, as features of tagging."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from korlm.tokenizers.analysis import Span
from korlm.tokenizers.kkma.tagger import Kkma

NUM_TAGS = 4096  # a hash assigns each tag to a number; 0: none


class MorphemeTags:
    """Kkma's tag of the morpheme that a character begins or continues.

    Kkma starts with the first text and ends with the object.
    """

    @functools.cached_property
    def _kkma(self) -> Kkma:
        return Kkma()

    def of(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the numbers of the tags of the characters of each text."""
        for text, tokens in zip(texts, self._kkma.tokens(texts), strict=True):
            numbers = [0] * len(text)
            for _, tag, begin, end in tokens:
                for at in range(begin, end):
                    if not numbers[at]:  # in a contraction, that of the first morpheme
                        numbers[at] = _number(("I-" if at > begin else "B-") + tag)
            yield numbers


def tags_of_tokens(numbers: Sequence[int], spans: Sequence[Span]) -> npt.NDArray[np.int64]:
    """Return the tag of each token, (T,): that of its first character; 0 for <eos>.

    ``numbers`` are the tags of the characters, ``spans`` the characters of each token, (T - 1,).
    """
    tags = [numbers[begin] if end > begin else 0 for begin, end in spans]
    return np.array([*tags, 0], dtype=np.int64)


@functools.cache
def _number(tag: str) -> int:
    return 1 + zlib.crc32(tag.encode()) % (NUM_TAGS - 1)
