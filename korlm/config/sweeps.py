"""Settings of sweeps (-m): launchers, the grid of settings, and hyperparameter search."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, ClassVar

from korlm.config.validation import Group, setting


@dataclass
class LauncherConfig(Group):
    """What Hydra itself reads; the classes are those of korlm.sweeps.launchers."""

    _group: ClassVar[str] = "hydra.launcher"

    _target_: str = ""
    _convert_: str = "all"

    # Hydra's word: lists and dicts come as such


@dataclass
class JoblibConfig(LauncherConfig):
    """Several jobs at a time on this machine."""

    _target_: str = "hydra_plugins.korlm.JoblibLauncher"
    n_jobs: int | None = None
    # at a time; null: as many as there are GPUs, or as the cores hold at trainer.threads each

    def __post_init__(self) -> None:
        self._at_least(1, "n_jobs")
        self._at_most(4096, "n_jobs")


@dataclass
class SubmititConfig(LauncherConfig):
    """Jobs as submitit takes them; a job that comes to its time limit is queued again."""

    folder: str = "${hydra.sweep.dir}/.submitit/%j"
    # of what submitit writes: its orders, and what each job says; all machines must see it
    timeout_min: int = 60
    # of each session of a job
    signal_delay_s: int = 120
    # the job is told so long before that; it must suffice to write last.pt
    max_num_timeout: int = 100
    # sessions that may end so, before a job counts as failed
    tasks_per_node: int = 1
    # processes that train the job's model together, as torchrun's do
    nodes: int = 1
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    array_parallelism: int | None = None
    # jobs at a time

    def __post_init__(self) -> None:
        self._at_least(1, "timeout_min", "signal_delay_s", "tasks_per_node", "nodes")
        self._at_least(1, "cpus_per_task", "array_parallelism")
        self._at_least(0, "gpus_per_node", "max_num_timeout")
        if self.signal_delay_s >= 60 * self.timeout_min:
            self._fail("signal_delay_s", f"must be less than timeout_min={self.timeout_min}")


@dataclass
class LocalConfig(SubmititConfig):
    """submitit on this machine: to try what a cluster would do, or several processes a job."""

    _target_: str = "hydra_plugins.korlm.LocalLauncher"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_most(1, "nodes")


@dataclass
class SlurmConfig(SubmititConfig):
    """SLURM; see ``man sbatch``."""

    _target_: str = "hydra_plugins.korlm.SlurmLauncher"
    name: str = "korlm"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mem_gb: float | None = None
    # of each node
    setup: list[str] = field(default_factory=list)
    # commands before Python, such as "module load cuda"
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    # of sbatch, as +hydra.launcher.additional_parameters.nice=5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._above(0, "mem_gb")


LAUNCHERS: dict[str, type] = {
    "joblib_schema": JoblibConfig,
    "local_schema": LocalConfig,
    "slurm_schema": SlurmConfig,
}


class Sampler(enum.Enum):
    """Who proposes the settings of a trial."""

    tpe = "tpe"
    random = "random"


class Pruner(enum.Enum):
    """Who ends trials early."""

    median = "median"
    none = "none"


@dataclass
class GridConfig(Group):
    """hydra/sweeper=basic, the default of -m: all combinations of the values that were given."""

    _group: ClassVar[str] = "hydra.sweeper"

    _target_: str = "hydra_plugins.korlm.GridSweeper"
    max_batch_size: int | None = None
    # jobs that are given to the launcher at once; null: all
    params: dict[str, Any] | None = None
    # setting -> values, such as 0.01,0.02; what is typed for the same setting replaces them

    def __post_init__(self) -> None:
        self._at_least(1, "max_batch_size")


@dataclass
class SearchConfig(Group):
    """hydra/sweeper=optuna: a search in place of all combinations."""

    _group: ClassVar[str] = "hydra.sweeper"

    _target_: str = "hydra_plugins.korlm.OptunaSweeper"
    n_trials: int = 20
    # in all, those of earlier commands included
    n_jobs: int = 1
    # proposed and launched at once; more than 1 pays where the launcher runs them side by side
    sampler: Sampler = Sampler.tpe
    # tpe: tree-structured Parzen estimators over all settings together (Bergstra et al. 2011;
    # Falkner et al. 2018); random: draws (Bergstra and Bengio 2012)
    seed: int = 1
    # of the proposals; that of the runs is the setting `seed`
    startup_trials: int = 8
    # drawn before tpe begins to learn from the figures
    pruner: Pruner = Pruner.median
    # median: a trial ends whose best figure of valid is worse than the median of those that others
    # had at the same share of their training
    prune_min_trials: int = setting(4, renamed_from="prune_trials")
    # whole trials with such a figure before any other is ended
    prune_warmup_ratio: float = setting(0.3, renamed_from="prune_share")
    # of its training that every trial is given
    params: dict[str, Any] = field(default_factory=dict)
    # setting -> choice(...), range(...), interval(...), tag(log, interval(...)), or one value; what
    # is typed for the same setting replaces it

    def __post_init__(self) -> None:
        self._at_least(1, "n_trials", "n_jobs", "startup_trials", "prune_min_trials")
        self._at_most(1_000_000, "n_trials")
        self._at_most(4096, "n_jobs")
        self._at_least(0, "seed")
        self._at_most(2**32 - 1, "seed")
        self._share("prune_warmup_ratio")
