"""Distribute the cores and GPUs of a machine among parallel jobs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"  # environment variable of the GPUs that a process may use


def visible_gpus(environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the CUDA names of the GPUs that a process may use, without importing PyTorch.

    >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2, 3"}), visible_gpus({"CUDA_VISIBLE_DEVICES": ""})
    (['2', '3'], [])
    """
    named = (os.environ if environment is None else environment).get(VISIBLE)
    if named is not None:
        names = [name.strip() for name in named.split(",")]
        wrong = [at for at, name in enumerate(names) if name in ("", "-1")]
        return names[: wrong[0]] if wrong else names  # CUDA also ignores names after a wrong one
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        return []
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [str(at) for at in range(sum(line.startswith("GPU ") for line in lines))]


def jobs_at_a_time(num_jobs: int, cores: int, threads: int | None, num_gpus: int) -> int:
    """Return the default number of parallel jobs.

    >>> jobs_at_a_time(20, 8, 1, 0), jobs_at_a_time(20, 8, 3, 0), jobs_at_a_time(20, 8, 1, 2)
    (8, 2, 2)
    """
    return max(1, min(num_jobs, num_gpus or cores // (threads or 1)))


def environments(
    count: int, cores: int, threads: int | None, gpus: Sequence[str], gpus_each: int = 1
) -> list[dict[str, str]]:
    """Return the environment variables of each parallel job.

    GPUs are assigned in turn, ``gpus_each`` per job. Without ``threads``, cores are distributed
    evenly.

    >>> environments(3, 8, None, [])
    [{'OMP_NUM_THREADS': '2'}, {'OMP_NUM_THREADS': '2'}, {'OMP_NUM_THREADS': '2'}]
    >>> environments(3, 8, 1, ["0", "5"])
    [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '5'}, {'CUDA_VISIBLE_DEVICES': '0'}]
    """
    shares: list[dict[str, str]] = []
    for at in range(count):
        share = {} if threads else {"OMP_NUM_THREADS": str(max(1, cores // count))}
        if gpus:
            job_gpus = (gpus[(at * gpus_each + k) % len(gpus)] for k in range(gpus_each))
            share[VISIBLE] = ",".join(job_gpus)
        shares.append(share)
    return shares
