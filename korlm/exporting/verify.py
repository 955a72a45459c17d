"""A model step by step, in PyTorch or onnxruntime: are both equal, how good and how fast is it?

Axes: B columns of a text, S steps, V vocabulary.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from korlm.dataset.batches import Ids
from korlm.dataset.vocab import EOS_ID, PAD_ID
from korlm.evaluation.metrics import exp
from korlm.exporting.onnx_graph import Array
from korlm.models.base import LanguageModel
from korlm.utils.progress import ProgressBar

State = list[Array]


Ints = npt.NDArray[np.int64]


WARM_UP, TIMED, SECONDS = 10, 200, 3.0  # steps; no more steps after so long


class Step(Protocol):
    """One token further, in whatever runs it."""

    def initial_state(self, rows: int) -> State:
        """The state before anything was read, each part (rows, ...)."""

    def __call__(self, ids: Ints, state: State) -> tuple[Array, State]:
        """Ids (B,) and what was read before -> log-probabilities (B, V) and the new state."""


class TorchStep:
    """A model in PyTorch."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def initial_state(self, rows: int) -> State:
        """See ``Step.initial_state``."""
        return [part.detach().numpy() for part in self._model.initial_state(rows)]

    @torch.inference_mode()
    def __call__(self, ids: Ints, state: State) -> tuple[Array, State]:
        """See ``Step``."""
        before = tuple(torch.from_numpy(part) for part in state)
        log_probs, after = self._model.step(torch.from_numpy(ids), before)
        return log_probs.numpy(), [part.numpy() for part in after]


class OnnxStep:
    """An exported step in onnxruntime, on the CPU.

    Args:
        path: of the .onnx file.
        begin: the state before anything was read: name -> (1, ...).
        threads: of onnxruntime; None: its own choice.
    """

    def __init__(self, path: Path, begin: dict[str, Array], threads: int | None = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._begin = begin

    def initial_state(self, rows: int) -> State:
        """See ``Step.initial_state``."""
        return [np.repeat(part, rows, axis=0) for part in self._begin.values()]

    def __call__(self, ids: Ints, state: State) -> tuple[Array, State]:
        """See ``Step``."""
        inputs = {"ids": ids, **dict(zip(self._begin, state, strict=True))}
        log_probs, *after = self._session.run(None, inputs)
        return log_probs, after


class Columns(NamedTuple):
    """A text cut into columns that are read side by side, each from the beginning of a state.

    Attributes:
        inputs: int64 (S, B).
        targets: int64 (S, B), <pad> behind the end of the text.
        resets: bool (S, B), where the state begins anew.
    """

    inputs: Ints
    targets: Ints
    resets: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, ids: Ids, rows: int, start_id: int, by_sentence: bool) -> Columns:
        """The columns of a text.

        Args:
            ids: (N,), N above 0.
            rows: B.
            start_id: the input before the first token of a sentence.
            by_sentence: whether the state begins anew with each sentence.
        """
        padding = np.zeros(-len(ids) % rows, dtype=np.int64)  # <pad>
        targets = np.concatenate([np.asarray(ids, dtype=np.int64), padding])
        inputs = np.concatenate([[EOS_ID], targets[:-1]])
        starts = inputs == EOS_ID
        inputs = np.where(starts, start_id, inputs)
        parts = (inputs, targets, starts & by_sentence)
        return cls(*(np.ascontiguousarray(part.reshape(rows, -1).T) for part in parts))


def largest_difference(one: Step, other: Step, inputs: Ints) -> float:
    """Between the log-probabilities of two, each reading on with its own states.

    Args:
        one: of the two.
        other: of the two.
        inputs: (S, B).

    Returns:
        NaN if one of them gives NaN.
    """
    states = [step.initial_state(inputs.shape[1]) for step in (one, other)]
    largest = 0.0
    for ids in inputs:
        first, states[0] = one(ids, states[0])
        second, states[1] = other(ids, states[1])
        largest = float(np.maximum(largest, np.abs(first - second).max()))
    return largest


def perplexity(step: Step, columns: Columns, what: str) -> float:
    """Of a text, in columns.

    Args:
        step: that reads it.
        columns: of the text.
        what: to be told beside the progress bar.
    """
    begin = step.initial_state(columns.inputs.shape[1])
    state, nats, num_tokens = begin, 0.0, 0
    for inputs, targets, resets in ProgressBar(
        zip(*columns, strict=True), what, len(columns.inputs), leave=False
    ):
        if resets.any():
            state = [
                np.where(resets.reshape(-1, *[1] * (part.ndim - 1)), first, part)
                for first, part in zip(begin, state, strict=True)
            ]
        log_probs, state = step(inputs, state)
        found = log_probs[np.arange(len(targets)), targets][targets != PAD_ID]
        nats -= float(found.sum(dtype=np.float64))
        num_tokens += len(found)
    return exp(nats / num_tokens)


def milliseconds(step: Step, ids: Ints) -> float:
    """Of a step with one row, the median of many.

    Args:
        step: to be timed.
        ids: (N,), what it reads.
    """
    state, times = step.initial_state(1), [0.0]
    while len(times) <= WARM_UP or (len(times) <= WARM_UP + TIMED and sum(times) < SECONDS):
        one = ids[len(times) % len(ids)][None]
        started = time.perf_counter()
        _, state = step(one, state)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[WARM_UP:])
