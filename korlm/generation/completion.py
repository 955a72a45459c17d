"""Complete the eojeol at the end of a text.

    with Completer(korlm.load("outputs/runs/DIR")) as completer:
        completer.complete("밥을 먹ㅇ", num_completions=3)

The model reads the text up to its last space. The rest is treated as typed keys, so it may be empty
or end within a syllable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from korlm.generation.candidates import choose
from korlm.generation.eojeol_search import EojeolSearch, SearchResult
from korlm.generation.lexicon import Lexicon
from korlm.generation.prompts import ContextEncoder, EncodedPrompt, banned_token_ids
from korlm.runs.trained_run import TrainedRun
from korlm.text.hangul import keys_of
from korlm.utils.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

MAX_EXPANSIONS = 64  # default of the search
MAX_CACHED_NODES = 1500  # kept for the next keystroke, about 80 kB each


@dataclass(frozen=True)
class Completion:
    """A completed eojeol.

    Attributes:
        text: the whole eojeol, in the most probable punctuation.
        probability: given the context and the typed keys, with any punctuation around it.
    """

    text: str
    probability: float


@dataclass(frozen=True)
class Completions:
    """Most probable completions in descending order.

    Attributes:
        eojeols: the completions.
        typed_probability: probability of the typed keys, given the context and that an eojeol
            follows. Multiplied by it, the probabilities are those given the context alone.
        rest: probability of all other eojeols that start with the typed keys, and of those that
            nobody would write (``candidates.py``); 0 if the model knows no such eojeol, else all
            probabilities sum to 1.
    """

    eojeols: list[Completion]
    typed_probability: float
    rest: float


class Completer:
    """Completes eojeols with a trained run; a context manager. Not thread-safe.

    Kkma starts (about 1 s) with the first text that has a finished eojeol. After that, only a text
    with a new context is tokenized; other keystrokes reuse the search tree of the last context.

    Args:
        device: device of the model; None: where it is.
    """

    def __init__(
        self,
        run: TrainedRun,
        device: torch.device | None = None,
    ) -> None:
        self.encoder = ContextEncoder(run, device)
        self.lexicon = Lexicon(run.vocab.tokens, run.detokenizer(), banned_token_ids(run.vocab))
        self._last: tuple[str, EncodedPrompt, EojeolSearch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the tokenizer; another text starts it again."""
        self.encoder.text_encoder.close()

    def complete(
        self, text: str, num_completions: int = 5, max_expansions: int = MAX_EXPANSIONS
    ) -> Completions:
        """Return the most probable completions of the last eojeol of a text.

        Args:
            text: any text. After a space at its end a new eojeol starts; an empty text starts a
                sentence.
            num_completions: maximum number of completions, 1 or more.
            max_expansions: nodes that the search expands; more find rarer eojeols and take longer.

        Raises:
            ConfigError: ``num_completions`` is below 1.
        """
        if num_completions < 1:
            raise ConfigError(f"num_completions={num_completions}: must be at least 1")
        # choose merges and drops eojeols, so search for more.
        result = self.search(text, 2 * num_completions, max_expansions)
        total = result.typed_probability
        if total <= 0:
            return Completions([], 0.0, 0.0)
        best = choose(result, self.lexicon, keys_of(split_typed(text)[1]))
        eojeols = [Completion(surface, p / total) for surface, p in best[:num_completions]]
        rest = max(0.0, 1.0 - sum(completion.probability for completion in eojeols))
        return Completions(eojeols, total, rest)

    def search(self, text: str, num_eojeols: int, max_expansions: int) -> SearchResult:
        """Run the search of ``complete``; also returns the token sequences of the eojeols.

        Raises:
            ConfigError: ``num_eojeols`` is below 1.
        """
        if num_eojeols < 1:
            raise ConfigError(f"num_eojeols={num_eojeols}: must be at least 1")
        context, typed = split_typed(text)
        return self._search_after(context)[1].search(keys_of(typed), num_eojeols, max_expansions)

    def encode_context(self, text: str) -> EncodedPrompt:
        """Encode a text that is all context; cached with its search tree, in place of the last."""
        return self._search_after(text)[0]

    def _search_after(self, context: str) -> tuple[EncodedPrompt, EojeolSearch]:
        """Return an encoded context and its search tree, new ones if they are not cached."""
        if self._last is None or self._last[0] != context:
            encoded = self.encoder.encode(context)
        elif self._last[2].num_expanded > MAX_CACHED_NODES:
            encoded = self._last[1]
        else:
            return self._last[1:]
        search = EojeolSearch(self.encoder.model, self.lexicon, encoded)
        self._last = context, encoded, search
        return encoded, search


def split_typed(text: str) -> tuple[str, str]:
    """Split a text into its context, including the last space, and the eojeol after it.

    >>> split_typed("나는 학교"), split_typed("나는 "), split_typed("나는")
    (('나는 ', '학교'), ('나는 ', ''), ('', '나는'))
    """
    typed = "" if not text or text[-1].isspace() else text.rsplit(maxsplit=1)[-1]
    return text[: len(text) - len(typed)], typed
