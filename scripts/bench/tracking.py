"""What TensorBoard costs: its share of a training step, measured inside a run.

    python scripts/bench/tracking.py prepared=FOLDER [any override of train]

The run has the command's own settings (a point each trainer.log_every=10 steps) and trains 300
steps unless trainer.max_steps says otherwise. Counted are the seconds in which the loop waits for
the tracker, and the processor time of the thread that writes the events; both against the steps
themselves, validation left out. A resumed or validating run writes more, but not more often.
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

from shares import settings_of

from korlm.dataset.prepared import open_prepared
from korlm.training.session import build_session


class Timed:
    """A function that adds up the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function."""
        began = time.perf_counter()
        try:
            return self.function(*arguments)
        finally:
            self.seconds += time.perf_counter() - began
            self.calls += 1


def main() -> None:
    """Trains, and tells the shares."""
    settings = settings_of(__doc__, "trainer.max_steps=300")
    assert settings.prepared is not None
    before = set(threading.enumerate())
    with tempfile.TemporaryDirectory() as folder:
        prepared = open_prepared(Path(settings.prepared))
        run = build_session(settings, prepared, Path(folder))
        point, validate = Timed(run.tracker.log_scalars), Timed(run.validator.validate)
        assert run.trainer is not None
        with (
            mock.patch.object(run.tracker, "log_scalars", point),
            mock.patch.object(run.validator, "validate", validate),
        ):
            run.trainer.run()
        seconds = run.progress.seconds - validate.seconds
        output_errors = sum(
            time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
            for thread in set(threading.enumerate()) - before
            if "Writer" in type(thread).__name__
        )
        run.tracker.close()
    print(f"{run.progress.step} steps in {seconds:.2f} s, {point.calls} points in TensorBoard")
    print(f"the loop waits for the tracker: {100 * point.seconds / seconds:.3f} % of a step")
    print(f"a thread writes the events: {100 * output_errors / seconds:.3f} % (processor time)")


if __name__ == "__main__":
    main()
