"""Measure the overhead of TensorBoard: its share of a training step, inside a run.

    python scripts/bench/tracking.py prepared=FOLDER [KEY=VALUE ...]

Trains with the settings of korlm.train (scalars every trainer.log_every=10 steps) for 300 steps, or
trainer.max_steps. Prints the time that the training loop spends in the logger, and the CPU time of
the thread that writes the event files, both relative to the training time without validation.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from bare import settings_from_command_line

from korlm.dataset.prepared import open_prepared
from korlm.training.session import build_session


class Timed:
    """A function whose calls and seconds are counted."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        started = time.perf_counter()
        try:
            return self.function(*arguments)
        finally:
            self.seconds += time.perf_counter() - started
            self.calls += 1


def main() -> None:
    """Train and print the shares."""
    settings = settings_from_command_line(__doc__, "trainer.max_steps=300")
    assert settings.prepared is not None
    earlier_threads = set(threading.enumerate())
    with tempfile.TemporaryDirectory() as folder:
        prepared = open_prepared(Path(settings.prepared))
        session = build_session(settings, prepared, Path(folder))
        log_scalars = Timed(session.tracker.log_scalars)
        validate = Timed(session.validator.validate)
        assert session.trainer is not None
        with (
            mock.patch.object(session.tracker, "log_scalars", log_scalars),
            mock.patch.object(session.validator, "validate", validate),
        ):
            session.trainer.run()
        seconds = session.progress.seconds - validate.seconds
        writer_seconds = sum(
            time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
            for thread in set(threading.enumerate()) - earlier_threads
            if "Writer" in type(thread).__name__
        )
        session.tracker.close()
    steps, calls = session.progress.step, log_scalars.calls
    print(f"{steps} steps in {seconds:.2f} s, scalars logged {calls} times")
    print(f"training loop, in the logger: {100 * log_scalars.seconds / seconds:.3f} % of the time")
    print(f"writer thread: {100 * writer_seconds / seconds:.3f} % of the time (CPU time)")


if __name__ == "__main__":
    main()
