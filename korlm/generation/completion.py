"""Completion: how the eojeol under the cursor may end, with probabilities.

    with Completer(korlm.load("outputs/runs/DIR")) as completer:
        completer.complete("밥을 먹ㅇ", k=3)

Of a text, whatever stands before its last blank is read by the model; the rest is taken as typed
keys, so that an eojeol may be begun or not, and end within a syllable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from korlm.generation.context import Context, ContextReader, Run, banned_token_ids
from korlm.generation.eojeol_search import EojeolSearch, Lexicon, SearchResult
from korlm.text.keyboard import keys_of

EFFORT = 64  # rows of tokens looked at: two batches


MAX_READ = 1500  # rows of tokens kept for the next keystroke, some 80 kB each


@dataclass(frozen=True)
class Completion:
    """An eojeol that may be meant.

    Attributes:
        text: the whole eojeol.
        probability: given the context and what is typed.
    """

    text: str
    probability: float


@dataclass(frozen=True)
class Completions:
    """What may be meant, the likeliest first.

    Attributes:
        eojeols: at most k of them.
        typed_probability: of what is typed, given the context and that an eojeol follows. Times it,
            the eojeols' probabilities are those given the context alone.
        rest: the probability of all other eojeols that begin as typed: with it they add up to 1
            (0 if nothing that the model knows begins so).
    """

    eojeols: list[Completion]
    typed_probability: float
    rest: float


class Completer:
    """Completes eojeols with a trained run; a context manager. Not for several threads at once.

    The first text with an eojeol before the last one starts Kkma (about 5 s). Kkma then reads each
    text with a new blank; other keystrokes are answered from what is known of the last context.

    Args:
        run: an opened run (``korlm.load``).
        device: where the model runs; None: where it is.
    """

    def __init__(self, run: Run, device: torch.device | None = None) -> None:
        self.reader = ContextReader(run, device)
        self.lexicon = Lexicon(run.vocab.tokens, run.detokenizer(), banned_token_ids(run.vocab))
        self._last: tuple[str, Context, EojeolSearch] | None = None

    def __enter__(self) -> Completer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the tokenizer; another text starts it anew."""
        self.reader.close()

    def complete(self, text: str, k: int = 5, effort: int = EFFORT) -> Completions:
        """The k likeliest eojeols that the end of a text may become.

        Args:
            text: any; with a blank at its end an eojeol is to begin. Empty: a sentence.
            k: how many at most.
            effort: rows of tokens that the search looks at; more find rarer eojeols and take
                longer.
        """
        found = self.search(text, k, effort)
        if found.mass <= 0:
            return Completions([], 0.0, 0.0)
        best = sorted(found.eojeols.items(), key=lambda item: (-item[1][0], item[0]))[:k]
        eojeols = [Completion(surface, p / found.mass) for surface, (p, _) in best]
        rest = max(0.0, 1.0 - sum(completion.probability for completion in eojeols))
        return Completions(eojeols, found.mass, rest)

    def search(self, text: str, k: int, effort: int = EFFORT) -> SearchResult:
        """As ``complete``, with the rows of tokens that spell the eojeols."""
        before, typed = split_typed(text)
        return self._known(before)[1].search(keys_of(typed), k, effort)

    def context(self, text: str) -> Context:
        """What the model says after a text."""
        return self._known(text)[0]

    def _known(self, text: str) -> tuple[Context, EojeolSearch]:
        if self._last is None or self._last[0] != text or self._last[2].num_read > MAX_READ:
            context = self.reader.read(text)
            tree = EojeolSearch(self.reader.model, self.lexicon, context)
            self._last = text, context, tree
        return self._last[1:]


def split_typed(text: str) -> tuple[str, str]:
    """What stands before the last eojeol, with the blank between, and what is typed of that.

    >>> split_typed("나는 학교"), split_typed("나는 "), split_typed("나는")
    (('나는 ', '학교'), ('나는 ', ''), ('', '나는'))
    """
    end = len(text) - len(text.split()[-1]) if text and not text[-1].isspace() else len(text)
    return text[:end], text[end:]
