"""Detokenize a stream of tokens: text is returned as soon as no later token can change it."""

from __future__ import annotations

from korlm.dataset.vocab import EOS
from korlm.detokenizers.base import Detokenizer


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
