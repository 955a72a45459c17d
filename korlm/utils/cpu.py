"""Count the cores available to this process."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")

SLURM = "SLURM_CPUS_PER_TASK"  # SLURM does not always enforce the requested number


def available_cores() -> int:
    """Return the number of cores that affinity, container and SLURM allow this process to use."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(CGROUP)
    cores = cores if quota is None else min(cores, math.ceil(quota))
    granted = os.environ.get(SLURM, "")
    return max(1, min(cores, int(granted))) if granted.isdigit() else cores


def _quota(root: Path) -> float | None:
    """Return the CPU limit of the Linux control group, as set by ``docker run --cpus``.

    The unit is cores. None: there is no limit, or no control group.
    """
    try:
        limit = (root / "cpu.max").read_text()
    except OSError:
        try:  # version 1 of control groups
            limit = " ".join(
                (root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        except OSError:
            return None
    quota, period = limit.split()
    return float(quota) / float(period) if quota not in ("max", "-1") else None
