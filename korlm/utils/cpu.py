"""How many cores there are for this process."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


SLURM = "SLURM_CPUS_PER_TASK"  # not all of SLURM's machines hold a task to what it asked for


def available_cores() -> int:
    """Cores that this process may use, by its affinity, its container and SLURM."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(CGROUP)
    cores = cores if quota is None else min(cores, math.ceil(quota))
    granted = os.environ.get(SLURM, "")
    return max(1, min(cores, int(granted))) if granted.isdigit() else cores


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
