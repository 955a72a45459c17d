"""Parts of the runs that ``korlm.load`` returns, whatever their task."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from korlm.cli.compose import Composed, compose
from korlm.dataset.text_encoder import TextEncoder
from korlm.generation.generator import Generator
from korlm.reporting.tensorboard_events import Curve, read_events
from korlm.runs.trained_run import RunParts, TrainedRun
from korlm.utils.errors import CheckpointError, ConfigError
from korlm.utils.torch_backend import tf32

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

# Settings of korlm.evaluate that a method of a run does not take.
_COMMAND_ONLY = {
    **dict.fromkeys(("device", "threads"), "the model computes where it is; use run.to(device)"),
    **dict.fromkeys(("output", "plot"), "results are returned, not written"),
    "run": "the run is this one",
}


class Resources:
    """Tokenizer and generator of a run, started at the first use and shared by all threads."""

    def __init__(self, run: RunParts) -> None:
        self.lock = threading.RLock()
        self._run, self._pid = run, os.getpid()
        self._text_encoder: TextEncoder | None = None
        self._generator: Generator | None = None

    @contextmanager
    def in_use(self) -> Iterator[Self]:
        """Hold the lock of the run, and compute in full precision."""
        with self.lock, tf32(False):
            yield self

    def text_encoder(self) -> TextEncoder:
        """Return the tokenizer with the vocabulary of the run."""
        if self._text_encoder is None:
            self._text_encoder = self._run.text_encoder()
        return self._text_encoder

    def generator(self) -> Generator:
        """Return the generator of a language model."""
        if self._generator is None:
            assert isinstance(self._run, TrainedRun)
            self._generator = Generator(self._run, text_encoder=self.text_encoder())
        return self._generator

    def close(self) -> None:
        """Stop the tokenizer, if this process has started it."""
        if self._pid != os.getpid():
            return
        with self.lock:
            if self._text_encoder is not None:
                self._text_encoder.__exit__()
            self._text_encoder = self._generator = None


class OpenRun:
    """Methods of runs of any task; a context manager that stops the tokenizer of a run."""

    folder: Path
    _resources: Resources

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the tokenizer; another text starts it again."""
        self._resources.close()

    def curves(self) -> dict[str, Curve]:
        """Return the training curves: tag of TensorBoard -> (step, value) of each point.

            steps, perplexities = zip(*run.curves()["perplexity/valid"])

        Raises:
            CheckpointError: the run was recorded without TensorBoard, or its files were removed.
        """
        recorded = read_events(self.folder / "tensorboard")
        if recorded.problem:
            raise CheckpointError(f"{self.folder}: {recorded.problem}")
        return recorded.curves


def fields_of(run: RunParts, kind: type[RunParts]) -> dict[str, Any]:
    """Return the fields of a class of runs, without what subclasses add."""
    return {field.name: getattr(run, field.name) for field in dataclasses.fields(kind)}


def evaluate_settings(run: RunParts, settings: Mapping[str, Any]) -> Composed:
    """Return the settings of an evaluation."""
    for key in settings.keys() & _COMMAND_ONLY.keys():
        raise ConfigError(f"{key}: does not apply to run.evaluate: {_COMMAND_ONLY[key]}")
    return compose("evaluate", {"run": run.folder, **settings})
