"""Settings of where a corpus is tokenized: on this machine, or by the workers of a Dask cluster."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import ClassVar

from korlm.config.validation import Group

LOCAL, SLURM = "local", "slurm"
_SLURM_ALONE = ("queue", "account", "walltime", "interface", "sbatch")


@dataclass
class ClusterConfig(Group):
    """Who tokenizes: this process and its children, or the workers of a Dask cluster."""

    _group: ClassVar[str] = "prepare"

    cluster: str | None = None
    # local: processes of this machine; slurm: jobs of SLURM; or the address of a Dask scheduler
    # that runs, such as tcp://HOST:8786; null: no cluster. A resumed run or sweep does not remember
    # prepare.*: type them again
    workers: int | None = None
    # processes, each with at most one JVM of tokenizer.threads threads (null: 4); null: local:
    # cores / threads; slurm needs a number
    memory_gb: float | None = None
    # of each worker, its JVM included; null: tokenizer.heap_mb and 1
    queue: str | None = None
    # of SLURM, as are the next ones: its partition; null: the default one
    account: str | None = None
    walltime: str = "01:00:00"
    # of each worker's job; what was not done by then is done by the next ones
    interface: str | None = None
    # network interface by which workers reach this process, such as ib0
    sbatch: list[str] = field(default_factory=list)
    # more options of sbatch, such as '["--constraint=amd"]'

    def __post_init__(self) -> None:
        self._at_least(1, "workers", "memory_gb")
        self._at_most(4096, "workers", "memory_gb")
        kind = self.cluster
        if not (kind in (None, LOCAL, SLURM) or re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", kind)):
            self._fail("cluster", "must be local, slurm or an address such as tcp://HOST:8786")
        if kind == SLURM and self.workers is None:
            self._fail("workers", "how many workers is SLURM to be asked for?")
        if not re.fullmatch(r"(\d+-)?\d+(:\d\d){0,2}", self.walltime):
            self._fail("walltime", "must be hours:minutes:seconds, such as 01:00:00")
        without_effect = ["workers", "memory_gb"] * (kind not in (LOCAL, SLURM))
        without_effect += list(_SLURM_ALONE) * (kind != SLURM)
        defaults = _defaults()
        for key in without_effect:
            if getattr(self, key) != defaults[key]:
                needed = "slurm" if key in _SLURM_ALONE else "local or slurm"
                self._fail(key, f"has no effect without prepare.cluster={needed}; leave it out")


def _defaults() -> dict[str, object]:
    return {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(ClusterConfig)
    }
