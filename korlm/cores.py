"""How many cores there are for this process."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that this process may use: of the machine, of its affinity, of its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(CGROUP)
    return cores if quota is None else min(cores, math.ceil(quota))


def _quota(root: Path) -> float | None:
    """Cores that a control group of Linux has time for, as ``docker run --cpus`` sets it."""
    try:
        told = (root / "cpu.max").read_text()
    except OSError:
        try:  # the first version of control groups
            told = " ".join(
                (root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        except OSError:
            return None
    quota, period = told.split()
    return float(quota) / float(period) if quota not in ("max", "-1") else None
