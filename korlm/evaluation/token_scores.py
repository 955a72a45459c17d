"""What every token of a text costs, in the order of the text: -ln p as float64 (N,).

Each way to read a text (state carried over, state reset, adapted on the way) gives such an array;
mixtures of models are then arithmetic over arrays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.dataset.batches import Ids, sentence_bounds
from korlm.dataset.vocab import EOS_ID, PAD_ID
from korlm.evaluation.neural_cache import CacheSetting, NeuralCache
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM
from korlm.modules.state import State
from korlm.utils.progress import ProgressBar

Nats = npt.NDArray[np.float64]


WINDOW = 256  # tokens read at once, and looked up in the cache at once


ROWS = 32  # sentences read side by side


@dataclass(frozen=True)
class TokenStream:
    """A split as one column, and what a model knows as the beginning of a sentence.

    Attributes:
        ids: (N,).
        start_id: the input before a sentence's first token: <eos>, of the sentence before, for a
            model that was trained on a stream; <bos> for one that was trained on sentences.
        device: where the tensors are to be.
    """

    ids: Ids
    start_id: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.ids)

    def windows(self, size: int, end: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets, int64 (1, T) each, T being ``size`` but for the last window.

        Args:
            size: tokens of a window.
            end: read only so many tokens.
        """
        last = min(len(self), end or len(self))
        for begin in range(0, last, size):
            targets = np.asarray(self.ids[begin : min(begin + size, last)], dtype=np.int64)
            inputs = np.empty_like(targets)
            inputs[0] = self.ids[begin - 1] if begin else EOS_ID
            inputs[1:] = targets[:-1]
            inputs[inputs == EOS_ID] = self.start_id
            yield self._tensor(inputs[None]), self._tensor(targets[None])

    def sentences(self, rows: int) -> Iterator[tuple[npt.NDArray[np.int64], Tensor, Tensor]]:
        """Sentences of similar length beside each other, padded.

        Args:
            rows: sentences at once, at most.

        Yields:
            Where each target stands in the text, -1 for padding, then inputs and targets; int64
            (B, T) all three.
        """
        starts, ends = sentence_bounds(self.ids)
        order = np.argsort(starts - ends, kind="stable")  # the longest first
        for first in range(0, len(order), rows):
            chosen = order[first : first + rows]
            lengths = (ends - starts)[chosen, None]
            steps = np.arange(int(lengths.max()))
            places = np.where(steps < lengths, starts[chosen, None] + steps, -1)
            targets = np.where(places < 0, PAD_ID, self.ids[places]).astype(np.int64)
            inputs = np.concatenate([np.full_like(places[:, :1], self.start_id), targets], 1)
            yield places, self._tensor(inputs[:, :-1]), self._tensor(targets)

    def _tensor(self, array: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


@dataclass(frozen=True)
class Window:
    """Some tokens in a row, as a model has read them.

    Attributes:
        targets: int64 (T,).
        nats: float32 (T,), -ln p of each.
        hidden: (T, H), what they were predicted from; None of a model without hidden vectors.
    """

    targets: Tensor
    nats: Tensor
    hidden: Tensor | None


@dataclass(frozen=True)
class TokenScores:
    """What a text costs, read in one way.

    Attributes:
        nats: (N,).
        seconds: what it took.
        cached: setting of a cache -> what the text costs under that cache alone.
    """

    nats: Nats
    seconds: float
    cached: dict[CacheSetting, TokenScores] = field(default_factory=dict)


def read(
    model: LanguageModel, inputs: Tensor, targets: Tensor, state: State | None
) -> tuple[Window, State]:
    """One window of a single column (1, T), read on from a state."""
    hidden = None
    if isinstance(model, NeuralLM):
        hidden, nats, state = model.encode_and_nll(inputs, targets, state)
        hidden = hidden[0].detach()
    else:
        nats, state = model.token_nll(inputs, targets, state)
    return Window(targets[0], nats[0], hidden), state


@torch.inference_mode()
def score_continuous(model: LanguageModel, text: TokenStream) -> Iterator[Window]:
    """The whole text in its order, the state carried over from sentence to sentence."""
    state: State | None = None
    for inputs, targets in text.windows(WINDOW):
        window, state = read(model, inputs, targets, state)
        yield window


def score(
    windows: Iterator[Window], num_tokens: int, what: str, cache: NeuralCache | None = None
) -> TokenScores:
    """What a text costs in all.

    Args:
        windows: of the text, in its order.
        num_tokens: N, for the progress bar.
        what: to be told there.
        cache: in which every token is looked up as well; needs hidden vectors.
    """
    started, in_cache = time.perf_counter(), 0.0
    nats: list[Tensor] = []
    probs: list[Tensor] = []
    with ProgressBar(total=num_tokens, desc=what, unit="token", leave=False) as bar:
        for window in _joined(windows):
            nats.append(window.nats.cpu().double())
            if cache is not None and window.hidden is not None:
                begun = time.perf_counter()
                probs.append(cache.look_up(window.hidden, window.targets).cpu())
                in_cache += time.perf_counter() - begun
            bar.update(len(window.targets))
    cached: dict[CacheSetting, TokenScores] = {}
    if cache is not None and probs:
        costs = -torch.cat(probs, 1).log().numpy()
        cached = {
            setting: TokenScores(cost, in_cache)
            for setting, cost in zip(cache.settings, costs, strict=True)
        }
    seconds = time.perf_counter() - started - in_cache
    return TokenScores(torch.cat(nats).numpy(), seconds, cached)


def _joined(windows: Iterator[Window]) -> Iterator[Window]:
    """Short windows put together, so that a cache is not asked for a few tokens at a time."""
    waiting: list[Window] = []

    def join() -> Window:
        vectors = [window.hidden for window in waiting if window.hidden is not None]
        return Window(
            torch.cat([window.targets for window in waiting]),
            torch.cat([window.nats for window in waiting]),
            torch.cat(vectors) if vectors else None,
        )

    for window in windows:
        waiting.append(window)
        if sum(len(window.targets) for window in waiting) >= WINDOW:
            yield join()
            waiting.clear()
    if waiting:
        yield join()


@torch.inference_mode()
def score_sentences(model: LanguageModel, text: TokenStream) -> TokenScores:
    """Each sentence by itself: the state is reset at its beginning."""
    started = time.perf_counter()
    found = np.empty(len(text))
    with ProgressBar(total=len(text), desc="reset", unit="token", leave=False) as bar:
        for places, inputs, targets in text.sentences(ROWS):
            state: State | None = None
            # In windows, so that one endless sentence needs no more memory than others. Rows that
            # have ended read <pad>, and nobody looks at them.
            for begin in range(0, places.shape[1], WINDOW):
                part = np.s_[:, begin : begin + WINDOW]
                nats, state = model.token_nll(inputs[part], targets[part], state)
                real = places[part] >= 0
                found[places[part][real]] = nats.cpu().numpy()[real]
            bar.update(int((places >= 0).sum()))
    return TokenScores(found, time.perf_counter() - started)
