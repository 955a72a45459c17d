"""Compute the negative log-likelihood of every token of a text: float64 (N,) in nats.

Results are in text order. ``score_tokens`` scores segments of a text (sentences, documents, or all
of it) side by side in padded batches. ``score_continuous`` reads the text as one stream and also
returns the hidden states, which the neural cache and dynamic evaluation need. Mixtures of models
are arithmetic on the resulting arrays.

Axes: N tokens of the text, S segments, B rows, T time steps, H hidden units.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.dataset.batches import sentence_bounds
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.vocab import EOS_ID, PAD_ID
from korlm.evaluation.neural_cache import CacheSetting, NeuralCache
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM
from korlm.modules.base import State
from korlm.utils.progress import ProgressBar

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WINDOW = 256  # time steps of a stream per forward pass
MAX_ROWS = 32  # sentences per batch


@dataclass(frozen=True)
class SegmentScores:
    """Scores of a text that was cut into segments.

    Attributes:
        nats: (N,), -ln p of each token.
        entropy: (N,), entropy in nats of each predicted distribution; None if not requested.
        state: the state after the last segment, B = 1; None if not requested.
    """

    nats: Floats
    entropy: Floats | None
    state: State | None


@dataclass(frozen=True)
class Window:
    """Consecutive tokens of a stream after a forward pass.

    Attributes:
        targets: int64 (T,).
        nats: float32 (T,), -ln p of each target.
        hidden: (T, H), the hidden states that predict the targets; None for models without them.
    """

    targets: Tensor
    nats: Tensor
    hidden: Tensor | None


@dataclass(frozen=True)
class TokenScores:
    """Scores of a text in one mode.

    Attributes:
        nats: (N,), -ln p of each token.
        cached: cache setting -> scores under that cache alone. All settings are looked up
            together, and each has an equal share of the run time, without that of this pass.
    """

    nats: Floats
    seconds: float
    cached: dict[CacheSetting, TokenScores] = field(default_factory=dict)


def windows(
    ids: Ids | Ints, starts: Ints, lengths: Ints, start_id: int, size: int
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield some segments of a text side by side, at most ``size`` time steps at once.

    Args:
        ids: (N,).
        starts: (B,), index of the first token of each segment.
        lengths: (B,), number of tokens of each segment, 1 or more.
        start_id: input before the first token of a segment or sentence: <eos> (of the sentence
            before) for models trained on a stream, <bos> for models trained on sentences.
        size: largest T.

    Yields:
        Positions of the targets in the text (-1 for padding), inputs and targets (<pad> for
        padding), all int64 (B, T).
    """
    longest = int(lengths.max())
    for begin in range(0, longest, size):
        steps = np.arange(begin, min(begin + size, longest))
        positions = np.where(steps < lengths[:, None], starts[:, None] + steps, -1)
        is_token = positions >= 0
        targets = np.where(is_token, ids[positions], PAD_ID).astype(np.int64)
        inputs = np.where(is_token, ids[np.maximum(positions, 0) - 1], PAD_ID).astype(np.int64)
        inputs[(inputs == EOS_ID) | (is_token & (steps == 0))] = start_id
        yield positions, inputs, targets


@torch.inference_mode()
def score_tokens(
    model: LanguageModel,
    ids: Ids | Ints,
    lengths: Ints,
    start_id: int,
    *,
    entropy: bool = False,
    state: State | None = None,
    keep_state: bool = False,
    batch_tokens: int = 4096,
    max_rows: int | None = None,
    description: str = "",
) -> SegmentScores:
    """Score the segments of a text; each starts from the initial state.

    Segments of similar length share a batch. A segment longer than ``batch_tokens`` is read in
    several windows, so memory does not depend on its length.

    Args:
        model: in evaluation mode.
        ids: (N,).
        lengths: (S,), number of tokens of each segment; consecutive segments, N tokens in all.
        start_id: see ``windows``.
        entropy: also compute entropies, which needs the full softmax of every token.
        state: the state before the first segment, B = 1; None: the initial state.
        keep_state: also return the state after the last segment.
        batch_tokens: largest B * T, padding included.
        max_rows: largest B.
        description: label of the progress bar; none is shown without it.
    """
    scores = np.empty((2 if entropy else 1, len(ids)))
    device = device_of(model)
    starts, last = np.cumsum(lengths) - lengths, len(lengths) - 1
    next_state = state
    bar = ProgressBar(
        total=len(ids), desc=description, unit="token", leave=False, shown=bool(description)
    )
    with bar:
        for rows in _row_batches(lengths, batch_tokens, max_rows):
            batch_state = model.initial_state(len(rows))
            if state is not None and 0 in rows:
                row = int(np.flatnonzero(rows == 0)[0])
                batch_state = tuple(
                    torch.cat([initial[:row], given, initial[row + 1 :]])
                    for initial, given in zip(batch_state, state, strict=True)
                )
            has_last = keep_state and last in rows
            # Only the state at the end of a row needs the lengths of shorter rows.
            is_ragged = has_last and lengths[rows[-1]] < lengths[rows[0]]
            ends = torch.from_numpy(lengths[rows]) if is_ragged else None
            for positions, inputs, targets in windows(
                ids, starts[rows], lengths[rows], start_id, batch_tokens
            ):
                arguments = (_tensor(inputs, device), _tensor(targets, device), batch_state, ends)
                if entropy:
                    *columns, batch_state = model.token_nll_and_entropy(*arguments)
                else:
                    *columns, batch_state = model.token_nll(*arguments)
                is_token = positions >= 0
                for values, column in zip(scores, columns, strict=True):
                    values[positions[is_token]] = column.cpu().numpy()[is_token]
            if has_last:
                row = int(np.flatnonzero(rows == last)[0])
                next_state = tuple(part[row : row + 1].clone() for part in batch_state)
            bar.update(int(lengths[rows].sum()))
    scores += 0.0  # turns -0 into 0
    return SegmentScores(
        scores[0], scores[1] if entropy else None, next_state if keep_state else None
    )


def _row_batches(lengths: Ints, batch_tokens: int, max_rows: int | None) -> Iterator[Ints]:
    """Yield the indices of segments of similar length, the longest ones first."""
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        num_rows = max(1, batch_tokens // int(lengths[order[0]]))
        num_rows = min(num_rows, max_rows or num_rows)
        yield order[:num_rows]
        order = order[num_rows:]


def score_sentences(
    model: LanguageModel, ids: Ids, start_id: int, description: str = ""
) -> TokenScores:
    """Score every sentence from the initial state; see ``score_tokens`` for the arguments."""
    started = time.perf_counter()
    starts, ends = sentence_bounds(ids)
    scores = score_tokens(
        *(model, ids, ends - starts, start_id),
        batch_tokens=MAX_ROWS * WINDOW,
        max_rows=MAX_ROWS,
        description=description,
    )
    return TokenScores(scores.nats, time.perf_counter() - started)


def stream_windows(
    ids: Ids | Ints, start_id: int, size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets of a whole text, int64 (1, T) with T at most ``size``."""
    whole = np.array([0]), np.array([len(ids)])
    for _, inputs, targets in windows(ids, *whole, start_id, size):
        yield _tensor(inputs, device), _tensor(targets, device)


@torch.inference_mode()
def score_continuous(model: LanguageModel, ids: Ids | Ints, start_id: int) -> Iterator[Window]:
    """Yield the scores of a text window by window; the state is carried over sentence ends."""
    state: State | None = None
    for inputs, targets in stream_windows(ids, start_id, WINDOW, device_of(model)):
        window, state = score_window(model, inputs, targets, state)
        yield window


def score_window(
    model: LanguageModel, inputs: Tensor, targets: Tensor, state: State | None
) -> tuple[Window, State]:
    """Score one window (1, T) of a stream; return it with the new state."""
    hidden = None
    if isinstance(model, NeuralLM):
        hidden, nats, state = model.encode_and_nll(inputs, targets, state)
        hidden = hidden[0].detach()
    else:
        nats, state = model.token_nll(inputs, targets, state)
    return Window(targets[0], nats[0], hidden), state


def collect_scores(
    scored: Iterator[Window], num_tokens: int, description: str, cache: NeuralCache | None = None
) -> TokenScores:
    """Concatenate the windows of a stream and look up every token in a cache.

    A cache needs windows with hidden states.
    """
    started, cache_seconds = time.perf_counter(), 0.0
    nats: list[Tensor] = []
    cache_probs: list[Tensor] = []
    with ProgressBar(total=num_tokens, desc=description, unit="token", leave=False) as bar:
        for window in scored:
            nats.append(window.nats.cpu().double())
            if cache is not None and window.hidden is not None:
                lookup_started = time.perf_counter()
                cache_probs.append(cache.look_up(window.hidden, window.targets).cpu())
                cache_seconds += time.perf_counter() - lookup_started
            bar.update(len(window.targets))
    cached: dict[CacheSetting, TokenScores] = {}
    if cache is not None and cache_probs:
        cache_nats = -torch.cat(cache_probs, 1).log().numpy()
        cached = {
            setting: TokenScores(row, cache_seconds / len(cache.settings))
            for setting, row in zip(cache.settings, cache_nats, strict=True)
        }
    seconds = time.perf_counter() - started - cache_seconds
    return TokenScores(torch.cat(nats).numpy(), seconds, cached)


def segment_sums(values: npt.NDArray[Any], lengths: Ints) -> npt.NDArray[Any]:
    """Return the sums of consecutive segments: (..., N), (S,) -> (..., S).

    ``lengths`` must be 1 or more; booleans are counted.

    >>> segment_sums(np.array([1, 2, 3]), np.array([2, 1]))
    array([3, 3])
    """
    if not len(lengths):
        return values[..., :0]
    values = values.astype(np.int64) if values.dtype == bool else values
    return np.add.reduceat(values, np.cumsum(lengths) - lengths, axis=-1)


def device_of(model: LanguageModel) -> torch.device:
    """Return the device of a model; n-gram models have buffers instead of parameters."""
    return model.initial_state(1)[0].device


def _tensor(array: Ints, device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
