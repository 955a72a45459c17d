"""Compare, evaluate and time a model step by step, in PyTorch or onnxruntime.

Axes: B parallel parts of a text (the batch), S steps per part, V vocabulary.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.vocab import EOS_ID, PAD_ID
from korlm.evaluation.metrics import exp
from korlm.evaluation.token_scores import Floats, Ints
from korlm.exporting.onnx_graph import Array
from korlm.models.base import LanguageModel
from korlm.utils.progress import ProgressBar

State = list[Array]

MAX_HYPOTHESES = 16  # that ``hypothesis_nats`` scores side by side
WARM_UP_STEPS, TIMED_STEPS, MAX_SECONDS = 10, 200, 3.0  # of ``milliseconds``


class Step(Protocol):
    """One step of a model, in any runtime."""

    def initial_state(self, rows: int) -> State:
        """Return the initial state, each tensor (rows, ...)."""

    def __call__(self, ids: Ints, state: State) -> tuple[Array, State]:
        """Return log-probabilities (B, V) after ids (B,), and the new state."""


class TorchStep:
    """A step of a model in PyTorch; the model is on the CPU and in evaluation mode."""

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
        path: the .onnx file.
        initial_state: name -> (1, ...).
        threads: of onnxruntime; None: its default.
    """

    def __init__(
        self, path: Path, initial_state: dict[str, Array], threads: int | None = 1
    ) -> None:
        self._session = _session(path, threads)
        self._initial_state = initial_state

    def initial_state(self, rows: int) -> State:
        """See ``Step.initial_state``."""
        return [np.repeat(part, rows, axis=0) for part in self._initial_state.values()]

    def __call__(self, ids: Ints, state: State) -> tuple[Array, State]:
        """See ``Step``."""
        inputs = {"ids": ids, **dict(zip(self._initial_state, state, strict=True))}
        log_probs, *after = self._session.run(None, inputs)
        return log_probs, after


class StreamingStep:
    """A streaming graph for sherpa-onnx (``korlm.exporting.sherpa``) in onnxruntime, on the CPU.

    Args:
        path: the .onnx file.
        threads: of onnxruntime; None: its default.
    """

    def __init__(self, path: Path, threads: int | None = 1) -> None:
        self._session = _session(path, threads)
        meta = self._session.get_modelmeta().custom_metadata_map
        self._shape = int(meta["num_layers"]), int(meta["hidden_size"])

    def initial_state(self, rows: int) -> State:
        """See ``Step.initial_state``."""
        return [np.zeros((rows, *self._shape), np.float32)] * 2

    def __call__(self, ids: Ints, state: State) -> tuple[Array, State]:
        """See ``Step``."""
        h, c = (part.swapaxes(0, 1) for part in state)
        log_probs, *after = self._session.run(None, {"x": ids[:, None], "h0": h, "c0": c})
        return log_probs, [part.swapaxes(0, 1) for part in after]


class TranslatedStep:
    """A step that takes and scores the ids of a recognizer.

    Args:
        step: of the model.
        ids: the ids of the model, see ``korlm.exporting.sherpa.TokenTable``.
    """

    def __init__(self, step: Step, ids: Ints) -> None:
        self._step, self._ids = step, ids

    def initial_state(self, rows: int) -> State:
        """See ``Step.initial_state``."""
        return self._step.initial_state(rows)

    def __call__(self, ids: Ints, state: State) -> tuple[Array, State]:
        """See ``Step``."""
        log_probs, after = self._step(self._ids[ids], state)
        return log_probs[:, self._ids[:-1]], after


def hypothesis_nats(path: Path, hypotheses: Sequence[Ints], threads: int | None = 1) -> Floats:
    """Return -ln p of each hypothesis by an offline graph for sherpa-onnx, (len(hypotheses),).

    Args:
        path: the .onnx file.
        hypotheses: ids of each, without start and end.
        threads: of onnxruntime; None: its default.
    """
    session, nats = _session(path, threads), [np.zeros(0)]
    order = np.argsort([-len(ids) for ids in hypotheses], kind="stable")
    for first in range(0, len(order), MAX_HYPOTHESES):
        rows = [hypotheses[row] for row in order[first : first + MAX_HYPOTHESES]]
        lengths = np.array([len(ids) for ids in rows])
        x = np.zeros((len(rows), lengths[0]), np.int64)
        x[np.arange(lengths[0]) < lengths[:, None]] = np.concatenate(rows)
        nats += session.run(None, {"x": x, "x_lens": lengths})
    return np.concatenate(nats)[np.argsort(order)]


def _session(path: Path, threads: int | None) -> Any:
    """Open an .onnx file on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class ParallelText(NamedTuple):
    """A text cut into B parts of S tokens that run in parallel, each from the initial state.

    Attributes:
        inputs: int64 (S, B).
        targets: int64 (S, B), <pad> after the end of the text.
        resets: bool (S, B), True where the state is reset before the step.
    """

    inputs: Ints
    targets: Ints
    resets: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, ids: Ids, batch_size: int, start_id: int, by_sentence: bool) -> ParallelText:
        """Cut a text into parts of equal length.

        Args:
            ids: (N,), N > 0.
            batch_size: B.
            start_id: the input before the first token of a sentence.
            by_sentence: reset the state at the start of each sentence.
        """
        padding = np.full((-len(ids)) % batch_size, PAD_ID)
        targets = np.concatenate([np.asarray(ids, dtype=np.int64), padding])
        inputs = np.concatenate([[EOS_ID], targets[:-1]])
        starts = inputs == EOS_ID
        inputs = np.where(starts, start_id, inputs)
        parts = (inputs, targets, starts & by_sentence)
        # (N,) -> (B, S) -> (S, B)
        return cls(*(np.ascontiguousarray(part.reshape(batch_size, -1).T) for part in parts))


def largest_difference(one: Step, other: Step, inputs: Ints) -> float:
    """Return the largest absolute difference of log-probabilities on inputs (S, B).

    Each step uses its own states. The result is NaN if any log-probability is.
    """
    states = [step.initial_state(inputs.shape[1]) for step in (one, other)]
    largest = 0.0
    for ids in inputs:
        first, states[0] = one(ids, states[0])
        second, states[1] = other(ids, states[1])
        largest = float(np.maximum(largest, np.abs(first - second).max()))
    return largest


def perplexity(step: Step, text: ParallelText, what: str) -> float:
    """Return the perplexity of a text.

    Args:
        step: the model.
        text: the text.
        what: label of the progress bar.
    """
    initial_state = step.initial_state(text.inputs.shape[1])
    state, nats, num_tokens = initial_state, 0.0, 0
    for inputs, targets, resets in ProgressBar(
        zip(*text, strict=True), what, len(text.inputs), leave=False
    ):
        if resets.any():
            state = [
                np.where(resets.reshape(-1, *[1] * (part.ndim - 1)), first, part)
                for first, part in zip(initial_state, state, strict=True)
            ]
        log_probs, state = step(inputs, state)
        target_log_probs = log_probs[np.arange(len(targets)), targets][targets != PAD_ID]
        nats -= float(target_log_probs.sum(dtype=np.float64))
        num_tokens += len(target_log_probs)
    return exp(nats / num_tokens)


def milliseconds(step: Step, ids: Ints) -> float:
    """Return the median time of a step with one row.

    Args:
        step: the model.
        ids: (N,), the input, repeated as needed.
    """
    state, times = step.initial_state(1), list[float]()
    max_steps = WARM_UP_STEPS + TIMED_STEPS
    while len(times) <= WARM_UP_STEPS or (len(times) < max_steps and sum(times) < MAX_SECONDS):
        token = ids[len(times) % len(ids)][None]
        started = time.perf_counter()
        _, state = step(token, state)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[WARM_UP_STEPS:])
