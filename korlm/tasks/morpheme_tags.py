"""Part-of-speech tags of the characters of texts, as features of tagging."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from korlm.dataset.storage.id_stream import Ids
from korlm.tokenizers.analysis import Span
from korlm.tokenizers.kkma.tagger import Kkma

NUM_TAGS = 4096  # a hash assigns each tag to a number; 0: none


class MorphemeTags:
    """Kkma's tag of the morpheme that a character begins or continues.

    Kkma starts with the first text and ends with the object.

    Args:
        vocab_size: V, of the vocabulary of the tokens.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

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

    def add(self, ids: Ids, spans: Sequence[Span], numbers: Sequence[int]) -> Ids:
        """Return id + V * tag for each token, which ``Tagger`` takes apart; <eos> has no tag.

        Args:
            ids: of the tokens of a line, <eos> included, (T,).
            spans: characters of each token, (T - 1,).
            numbers: tag of each character.
        """
        tags = [numbers[begin] if end > begin else 0 for begin, end in spans]
        return ids + self.vocab_size * np.array([*tags, 0], dtype=np.int64)


@functools.cache
def _number(tag: str) -> int:
    return 1 + zlib.crc32(tag.encode()) % (NUM_TAGS - 1)
