"""Compute surprisal and entropy of every token of a text in one pass of constant memory.

The text is processed in windows of some ten thousand tokens. The segments of a window (lines,
documents, or all of it: tokens that share a context) are batched by length; a segment that
continues in the next window passes its state on.

Axes: N tokens of a window.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from korlm.config import ScoreContext
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import UNK_ID
from korlm.evaluation.token_scores import Floats, Ints, score_tokens
from korlm.models.base import LanguageModel
from korlm.modules.base import State

WINDOW = 30_000  # tokens whose segments are sorted by length together
NATS_PER_BIT = math.log(2)


@dataclass(frozen=True)
class SurprisalBatch:
    """Surprisal of a window of N tokens.

    Attributes:
        lines: the lines of the window.
        surprisal: (N,), -log2 p of each token; of <unk> if the token is unknown.
        open_surprisal: (N,), surprisal plus the bits that spell what the id does not restore.
        entropy: (N,), entropy in bits of the distribution that predicts each token, or None.
        unknown: bool (N,).
    """

    lines: EncodedText
    surprisal: Floats
    open_surprisal: Floats
    entropy: Floats | None
    unknown: npt.NDArray[np.bool_]


class SurprisalScorer:
    """Computes surprisals window by window; keeps the state of a document that continues.

    Args:
        model: in evaluation mode.
        start_id: input before the first token of a sentence (``TrainedRun.start_id``).
        context: which tokens share a context.
        entropy: also compute entropies, which needs the full softmax of every token.
        batch_tokens: largest batch, padding included.
    """

    def __init__(
        self,
        model: LanguageModel,
        start_id: int,
        context: ScoreContext,
        entropy: bool = True,
        batch_tokens: int = 4096,
    ) -> None:
        self._model = model
        self._start_id = start_id
        self._context = context
        self._entropy = entropy
        self._batch_tokens = batch_tokens
        self._state: State | None = None  # after the last segment, B = 1
        self._last_doc: str | None = None

    def score(self, encoded: Iterable[EncodedText]) -> Iterator[SurprisalBatch]:
        """Yield the surprisals of consecutive lines, a window at a time."""
        for window in rebatch(encoded):
            lengths, continues = self._segments(window)
            scores = score_tokens(
                *(self._model, window.ids, lengths, self._start_id),
                entropy=self._entropy,
                state=self._state if continues else None,
                keep_state=self._context is not ScoreContext.line and len(lengths) > 0,
                batch_tokens=self._batch_tokens,
            )
            if scores.state is not None:
                self._state = scores.state
            yield SurprisalBatch(
                window,
                scores.nats / NATS_PER_BIT,
                (scores.nats + window.spelling_nats) / NATS_PER_BIT,
                None if scores.entropy is None else scores.entropy / NATS_PER_BIT,
                window.ids == UNK_ID,
            )

    def _segments(self, window: EncodedText) -> tuple[Ints, bool]:
        """Return the length of each segment, and whether the first one continues the last one."""
        not_blank = np.flatnonzero(window.lengths)
        ends = np.cumsum(window.lengths[not_blank])
        continues = self._context is ScoreContext.carried
        if continues:
            ends = ends[-1:]
        elif self._context is ScoreContext.document and len(not_blank):
            docs = window.table.column("doc_id").combine_chunks().dictionary_encode()
            codes = docs.indices.to_numpy()[not_blank]
            first, last = (docs.dictionary[int(code)].as_py() for code in codes[[0, -1]])
            continues, self._last_doc = first == self._last_doc, last
            ends = ends[np.append(codes[1:] != codes[:-1], True)]
        return np.diff(ends, prepend=0), continues


def rebatch(encoded: Iterable[EncodedText]) -> Iterator[EncodedText]:
    """Concatenate lines until there are enough tokens to sort by length."""
    pending: list[EncodedText] = []
    for lines in encoded:
        pending.append(lines)
        if sum(len(part.ids) for part in pending) >= WINDOW:
            yield EncodedText.concatenate(pending)
            pending = []
    if pending:
        yield EncodedText.concatenate(pending)
