"""How one machine is shared out among jobs that run at the same time: its cores, its GPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus(environment: Mapping[str, str] | None = None) -> list[str]:
    """The GPUs that a process may use, as CUDA names them; without PyTorch, which takes seconds.

    Args:
        environment: of the process; None: of this one.

    >>> visible_gpus({"CUDA_VISIBLE_DEVICES": "2, 3"}), visible_gpus({"CUDA_VISIBLE_DEVICES": ""})
    (['2', '3'], [])
    """
    named = (os.environ if environment is None else environment).get(VISIBLE)
    if named is not None:
        found = [name.strip() for name in named.split(",")]
        wrong = [at for at, name in enumerate(found) if name in ("", "-1")]
        return found[: wrong[0]] if wrong else found  # CUDA reads no further either
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except OSError:
        return []
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [str(at) for at in range(sum(line.startswith("GPU ") for line in lines))]


def jobs_at_a_time(num_jobs: int, cores: int, threads: int | None, num_gpus: int) -> int:
    """How many jobs run at the same time if the user does not say.

    Args:
        num_jobs: how many there are.
        cores: that this process may use.
        threads: of each job; None: the cores are shared out evenly.
        num_gpus: that the jobs may use; each takes one.

    >>> jobs_at_a_time(20, 8, 1, 0), jobs_at_a_time(20, 8, 3, 0), jobs_at_a_time(20, 8, 1, 2)
    (8, 2, 2)
    """
    return max(1, min(num_jobs, num_gpus or cores // (threads or 1)))


def environments(
    count: int, cores: int, threads: int | None, gpus: Sequence[str], gpus_each: int = 1
) -> list[dict[str, str]]:
    """What each of the jobs that run at the same time finds in its environment.

    Each has GPUs of its own as long as they suffice; then they are dealt out in turn. Jobs whose
    threads are left to PyTorch share the cores.

    >>> environments(3, 8, None, [])
    [{'OMP_NUM_THREADS': '2'}, {'OMP_NUM_THREADS': '2'}, {'OMP_NUM_THREADS': '2'}]
    >>> environments(3, 8, 1, ["0", "5"])
    [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '5'}, {'CUDA_VISIBLE_DEVICES': '0'}]
    """
    shares: list[dict[str, str]] = []
    for at in range(count):
        share = {} if threads else {"OMP_NUM_THREADS": str(max(1, cores // count))}
        if gpus:
            own = (gpus[(at * gpus_each + k) % len(gpus)] for k in range(gpus_each))
            share[VISIBLE] = ",".join(own)
        shares.append(share)
    return shares
