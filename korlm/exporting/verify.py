"""Compare, evaluate and time a model step by step, in PyTorch or onnxruntime.

Axes: B parallel parts of a text (the batch), S steps per part, V vocabulary.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class Step(NamedTuple):
    """One step of a model, in any runtime on the CPU.

    Attributes:
        begin: the initial state, each tensor (1, ...).
        run: ids (B,), state -> log-probabilities (B, V), new state.
    """

    begin: State
    run: Callable[[Ints, State], tuple[Array, State]]

    def initial_state(self, rows: int) -> State:
        """Return the initial state, each tensor (rows, ...)."""
        return [np.repeat(part, rows, axis=0) for part in self.begin]


def torch_step(model: LanguageModel) -> Step:
    """Return a step in PyTorch; the model is in evaluation mode."""

    @torch.inference_mode()
    def run(ids: Ints, state: State) -> tuple[Array, State]:
        log_probs, new_state = model.step(
            torch.from_numpy(ids), tuple(torch.from_numpy(part) for part in state)
        )
        return log_probs.numpy(), [part.numpy() for part in new_state]

    return Step([part.detach().numpy() for part in model.initial_state(1)], run)


def onnx_step(path: Path, begin: dict[str, Array], threads: int | None = 1) -> Step:
    """Return an exported step in onnxruntime; ``begin`` is the initial state by name."""
    session = open_session(path, threads)

    def run(ids: Ints, state: State) -> tuple[Array, State]:
        log_probs, *new_state = session.run(
            None, {"ids": ids, **dict(zip(begin, state, strict=True))}
        )
        return log_probs, new_state

    return Step(list(begin.values()), run)


def streaming_step(path: Path, threads: int | None = 1) -> Step:
    """Return a streaming graph for sherpa-onnx (``korlm.exporting.sherpa``) in onnxruntime."""
    session = open_session(path, threads)
    metadata = session.get_modelmeta().custom_metadata_map
    zeros = np.zeros((1, int(metadata["num_layers"]), int(metadata["hidden_size"])), np.float32)

    def run(ids: Ints, state: State) -> tuple[Array, State]:
        h, c = (part.swapaxes(0, 1) for part in state)
        log_probs, *new_state = session.run(None, {"x": ids[:, None], "h0": h, "c0": c})
        return log_probs, [part.swapaxes(0, 1) for part in new_state]

    return Step([zeros, zeros], run)


def translated(step: Step, model_ids: Ints) -> Step:
    """Return a step that takes and scores the ids of a recognizer (``sherpa.TokenTable.ids``)."""

    def run(ids: Ints, state: State) -> tuple[Array, State]:
        log_probs, new_state = step.run(model_ids[ids], state)
        return log_probs[:, model_ids[:-1]], new_state

    return Step(step.begin, run)


def hypothesis_nats(path: Path, hypotheses: Sequence[Ints], threads: int | None = 1) -> Floats:
    """Return -ln p of each hypothesis by an offline graph for sherpa-onnx, (len(hypotheses),).

    Hypotheses are ids without start and end.
    """
    session, nats = open_session(path, threads), [np.zeros(0)]
    order = np.argsort([-len(ids) for ids in hypotheses], kind="stable")
    for first in range(0, len(order), MAX_HYPOTHESES):
        rows = [hypotheses[row] for row in order[first : first + MAX_HYPOTHESES]]
        lengths = np.array([len(ids) for ids in rows])
        x = np.zeros((len(rows), lengths[0]), np.int64)
        x[np.arange(lengths[0]) < lengths[:, None]] = np.concatenate(rows)
        nats += session.run(None, {"x": x, "x_lens": lengths})
    return np.concatenate(nats)[np.argsort(order)]


def open_session(path: Path, threads: int | None) -> Any:
    """Open an .onnx file on the CPU, with a number of threads; None: onnxruntime's default."""
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
    def cut(cls, ids: Ids, batch_size: int, start_id: int, by_sentence: bool) -> ParallelText:
        """Cut a text, (N,) with N > 0, into parts of equal length.

        Args:
            ids: the text.
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


def largest_difference(first: Step, second: Step, inputs: Ints) -> float:
    """Return the largest absolute difference of log-probabilities on inputs (S, B).

    Each step uses its own states. The result is NaN if any log-probability is.
    """
    first_state, second_state = (step.initial_state(inputs.shape[1]) for step in (first, second))
    largest = 0.0
    for ids in inputs:
        expected, first_state = first.run(ids, first_state)
        actual, second_state = second.run(ids, second_state)
        largest = float(np.maximum(largest, np.abs(expected - actual).max()))
    return largest


def perplexity(step: Step, text: ParallelText, description: str) -> float:
    """Return the perplexity of a text."""
    initial_state = step.initial_state(text.inputs.shape[1])
    state, nats, num_tokens = initial_state, 0.0, 0
    for inputs, targets, resets in ProgressBar(
        zip(*text, strict=True), description, len(text.inputs), leave=False
    ):
        if resets.any():
            state = [
                np.where(resets.reshape(-1, *[1] * (part.ndim - 1)), first, part)
                for first, part in zip(initial_state, state, strict=True)
            ]
        log_probs, state = step.run(inputs, state)
        target_log_probs = log_probs[np.arange(len(targets)), targets][targets != PAD_ID]
        nats -= float(target_log_probs.sum(dtype=np.float64))
        num_tokens += len(target_log_probs)
    return exp(nats / num_tokens)


def milliseconds(step: Step, ids: Ints) -> float:
    """Return the median time of a step with one row; ids (N,) are repeated as needed."""
    state, times = step.initial_state(1), list[float]()
    max_steps = WARM_UP_STEPS + TIMED_STEPS
    while len(times) <= WARM_UP_STEPS or (len(times) < max_steps and sum(times) < MAX_SECONDS):
        token = ids[len(times) % len(ids)][None]
        started = time.perf_counter()
        _, state = step.run(token, state)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[WARM_UP_STEPS:])
