"""Any text, read by a model in one go: what every token costs and how open the choice was.

The text comes as windows of some ten thousand tokens, so that memory does not grow. Within a window
its segments (lines, documents, or all of it: the tokens that share a context) are read side by side
with others of similar length; a segment that may go on in the next window hands its state over.
Axes: N tokens of a window, B rows, T time.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.config import Context
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import EOS_ID, PAD_ID, UNK_ID
from korlm.models.base import LanguageModel
from korlm.modules.state import State

Ints = npt.NDArray[np.int64]


Floats = npt.NDArray[np.float64]


WINDOW = 30_000  # tokens among which segments of similar length are looked for


BIT = math.log(2)  # in nats


@dataclass(frozen=True)
class SurprisalBatch:
    """What a window of a text costs, N tokens in all.

    Attributes:
        reading: the window.
        surprisal: (N,), -log2 p of each token, <unk>'s own where the token is unknown.
        open_surprisal: (N,), with the bits that spell what an id does not give back.
        entropy: (N,), of the distribution that predicts each token, in bits; None: not asked for.
        unknown: bool (N,).
    """

    reading: EncodedText
    surprisal: Floats
    open_surprisal: Floats
    entropy: Floats | None
    unknown: npt.NDArray[np.bool_]


class SurprisalScorer:
    """Reads the windows of a text in their order.

    Args:
        model: in evaluation mode.
        start_id: the input before a sentence's first token, as of ``TrainedRun``.
        context: what tokens share a context.
        entropy: whether to tell it; the full softmax of every token takes its time.
        batch_tokens: read at once, padding included.
    """

    def __init__(
        self,
        model: LanguageModel,
        start_id: int,
        context: Context,
        entropy: bool = True,
        batch_tokens: int = 4096,
    ) -> None:
        self._model = model
        self._start_id = start_id
        self._context = context
        self._with_entropy = entropy
        self._batch_tokens = batch_tokens
        self._device = model.initial_state(1)[0].device
        self._open: State | None = None  # of the last document read, which may go on; B = 1
        self._open_doc: str | None = None

    def score(self, readings: Iterable[EncodedText]) -> Iterator[SurprisalBatch]:
        """The costs of a text, a window at a time.

        Args:
            readings: whole lines, in their order.
        """
        for window in rebatch(readings):
            nats, entropy = self._read(window)
            yield SurprisalBatch(
                window,
                nats / BIT,
                (nats + window.spelling_nats) / BIT,
                None if entropy is None else entropy / BIT,
                window.ids == UNK_ID,
            )

    @torch.inference_mode()
    def _read(self, window: EncodedText) -> tuple[Floats, Floats | None]:
        """Nats and entropy of each token, (N,) both."""
        found = np.empty((2 if self._with_entropy else 1, len(window.ids)))
        starts, ends, continues = self._segments(window)
        before, last = self._open if continues else None, len(starts) - 1
        for rows in self._batches(ends - starts):
            state = self._model.initial_state(len(rows))
            for at in np.flatnonzero(rows == 0).tolist() if before is not None else ():
                pairs = zip(state, before or (), strict=True)
                state = tuple(torch.cat([s[:at], b, s[at + 1 :]]) for s, b in pairs)
            kept = [] if self._context is Context.line else np.flatnonzero(rows == last).tolist()
            state = self._read_rows(
                window.ids, starts[rows], (ends - starts)[rows], state, bool(kept), found
            )
            for at in kept:
                self._open = tuple(part[at : at + 1].clone() for part in state)
        found += 0.0  # no -0
        return found[0], found[1] if self._with_entropy else None

    def _segments(self, window: EncodedText) -> tuple[Ints, Ints, bool]:
        """Where each segment begins and ends, and whether the first goes on with the one before."""
        filled = np.flatnonzero(window.lengths)
        ends = np.cumsum(window.lengths[filled])
        continues = self._context is Context.carried
        if continues:
            ends = ends[-1:]
        elif self._context is Context.document and len(filled):
            docs = window.table.column("doc_id").combine_chunks().dictionary_encode()
            codes = docs.indices.to_numpy()[filled]
            first, last = (docs.dictionary[int(code)].as_py() for code in codes[[0, -1]])
            continues, self._open_doc = first == self._open_doc, last
            ends = ends[np.append(codes[1:] != codes[:-1], True)]
        return np.append(0, ends)[:-1], ends, continues

    def _batches(self, lengths: Ints) -> Iterator[Ints]:
        """Segments to read side by side, the longest first."""
        order = np.argsort(-lengths, kind="stable")
        first = 0
        while first < len(order):
            rows = max(1, self._batch_tokens // int(lengths[order[first]]))
            yield order[first : first + rows]
            first += rows

    def _read_rows(
        self, ids: Ints, starts: Ints, lengths: Ints, state: State, keep: bool, found: Floats
    ) -> State:
        """Reads segments side by side and notes what each token costs.

        Args:
            ids: (N,).
            starts: (B,).
            lengths: (B,), falling.
            state: of B rows.
            keep: whether the state afterwards is of use.
            found: (1 or 2, N), nats and entropy; written to.

        Returns:
            The state at the end of each row.
        """
        # One endless segment is read in parts: it needs no more memory than others.
        for begin in range(0, int(lengths[0]), self._batch_tokens):
            steps = np.arange(begin, min(begin + self._batch_tokens, int(lengths[0])))
            real = steps < lengths[:, None]
            places = np.where(real, starts[:, None] + steps, 0)
            targets = np.where(real, ids[places], PAD_ID)
            inputs = np.where(real, ids[places - 1], PAD_ID)
            inputs[(inputs == EOS_ID) | (real & (steps == 0))] = self._start_id
            ragged = keep and int(lengths[-1]) < len(steps)
            ends = torch.from_numpy(lengths) if ragged else None
            arguments = (self._tensor(inputs), self._tensor(targets), state, ends)
            if self._with_entropy:
                *parts, state = self._model.token_nll_and_entropy(*arguments)
            else:
                *parts, state = self._model.token_nll(*arguments)
            for row, part in zip(found, parts, strict=True):
                row[places[real]] = part.cpu().numpy()[real]
        return state

    def _tensor(self, array: Ints) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def rebatch(readings: Iterable[EncodedText]) -> Iterator[EncodedText]:
    """Readings put together until they hold enough tokens to be sorted by length."""
    waiting: collections.deque[EncodedText] = collections.deque()
    held = 0
    for reading in readings:
        waiting.append(reading)
        held += len(reading.ids)
        if held >= WINDOW:
            yield EncodedText.joined(list(waiting))
            waiting.clear()
            held = 0
    if waiting:
        yield EncodedText.joined(list(waiting))
