"""What the tests of launchers ask of a sweep."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
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


def when(is_so: Callable[[], bool], act: Callable[[], None]) -> None:
    """Does something as soon as something else is so."""

    def wait() -> None:
        until = time.monotonic() + 60
        while not is_so() and time.monotonic() < until:
            time.sleep(0.01)
        act()

    threading.Thread(target=wait, daemon=True).start()
