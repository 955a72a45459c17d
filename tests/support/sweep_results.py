"""Results of a sweep, and what happens while it runs."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from korlm.training.validation import Validator


def results(sweep: Path) -> dict[str, Any]:
    """Return the metrics of each job, without those that depend on the clock."""
    metrics_of_jobs = {}
    for path in sweep.glob("*/metrics.json"):
        metrics = json.loads(path.read_text("utf-8"))
        for figures in metrics.values():
            for key in ("seconds", "tokens_per_second", "peak_memory_mb"):
                del figures[key]
        metrics_of_jobs[path.parent.name] = metrics
    return metrics_of_jobs


@contextmanager
def when(condition: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` once within the block, as soon as ``condition`` returns True.

    After the block it is never called: a signal to this process would hit the next test.
    """
    ended = threading.Event()

    def wait() -> None:
        while not ended.wait(0.01):
            if condition():
                act()
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def interrupted_at(validation: int) -> Iterator[list[int]]:
    """Interrupt (Ctrl-C) a command at a validation, counted from 1; yield the steps of all."""
    validate, steps = Validator.validate, list[int]()

    def interrupt(self: Validator, *arguments: Any) -> Any:
        result = validate(self, *arguments)
        steps.append(self.progress.step)
        if len(steps) == validation:
            signal.raise_signal(signal.SIGINT)
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Validator, "validate", interrupt)
        yield steps
