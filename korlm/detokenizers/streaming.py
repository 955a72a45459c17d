"""Tokens one by one -> readable text, given out as soon as it can no more change."""

from __future__ import annotations

from korlm.dataset.vocab import EOS
from korlm.detokenizers.base import Detokenizer


class StreamingDetokenizer:
    r"""Puts tokens together to text, eojeol by eojeol.

    Args:
        recomposer: of the run's tokenizer.
        left: the last token of ``surface``.
        surface: an eojeol that has ended, but for the blank behind it.

    >>> from korlm.detokenizers.registry import build_detokenizer
    >>> stream = StreamingDetokenizer(build_detokenizer("eojeol"))
    >>> [stream.add(token) for token in ("나는", "간다.", "<eos>", "너는")], stream.end()
    (['', '나는 ', '간다.\n', ''], '너는')
    """

    def __init__(self, detokenizer: Detokenizer, left: str = "", surface: str = "") -> None:
        self._recomposer = detokenizer
        self._left, self._surface, self._has_ended = left, surface, bool(surface)

    def add(self, token: str) -> str:
        """Takes a token; gives the text that is final with it, mostly none."""
        if token == EOS:
            return self.end() + "\n"
        written = ""
        if self._surface and self._is_next(token):
            written, self._surface = self._surface + " ", ""
        left = self._left if self._surface else ""
        self._surface = self._recomposer.join(self._surface, left, token)
        self._left, self._has_ended = token, False
        # Where blanks are tokens, what stands before one is final too.
        end = self._surface.rfind(" ") + 1
        written, self._surface = written + self._surface[:end], self._surface[end:]
        return written

    def _is_next(self, token: str) -> bool:
        """Whether a token begins another eojeol than the one at hand."""
        if self._has_ended:
            return not self._recomposer.join("", "", token).isspace()
        return self._recomposer.boundary(self._left, token) > 0.5

    def end(self) -> str:
        """The text that is left, with which a line ends."""
        written, self._surface, self._has_ended = self._surface, "", False
        return written
