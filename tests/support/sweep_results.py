"""What the tests of launchers ask of a sweep."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def results(sweep: Path) -> dict[str, Any]:
    """What each job came to, without what depends on the clock."""
    found = {}
    for path in sweep.glob("*/metrics.json"):
        metrics = json.loads(path.read_text("utf-8"))
        for figures in metrics.values():
            for key in ("seconds", "tokens_per_second", "peak_memory_mb"):
                del figures[key]
        found[path.parent.name] = metrics
    return found


@contextmanager
def when(is_so: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Act once, as soon as something is so while this lasts, and never afterwards.

    What acts by sending a signal to this process would otherwise hit whichever test runs by then.
    """
    ended = threading.Event()

    def wait() -> None:
        while not ended.wait(0.01):
            if is_so():
                act()
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
