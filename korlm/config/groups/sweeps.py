"""Settings of sweeps (-m): launchers, grid and hyperparameter search."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, ClassVar

from korlm.config.validation import Group, fraction, setting


@dataclass
class LauncherConfig(Group):
    """Keys that Hydra reads; the classes are in korlm.sweeps.launchers."""

    _group: ClassVar[str] = "hydra.launcher"

    _target_: str = ""
    _convert_: str = "all"  # Hydra passes lists and dicts instead of ListConfig and DictConfig


@dataclass
class ParallelConfig(LauncherConfig):
    """Several jobs at a time on this machine."""

    _target_: str = "hydra_plugins.korlm.ParallelLauncher"
    n_jobs: int | None = setting(
        None, "Simultaneous jobs; null: one per GPU, or cores / trainer.threads.", min=1, max=4096
    )


@dataclass
class SubmititConfig(LauncherConfig):
    """Jobs of submitit; a job that reaches its time limit is queued again."""

    folder: str = setting(
        "${hydra.sweep.dir}/.submitit/%j",
        "Folder of submitit's job files and logs, which all machines must see.",
        is_path=True,
    )
    timeout_min: int = setting(60, "Time limit of each session of a job.", unit="minutes", min=1)
    signal_delay_s: int = setting(
        120, "Warning before the time limit, enough to write last.pt.", unit="seconds", min=1
    )
    max_num_timeout: int = setting(
        100, "Sessions that may reach the time limit before a job counts as failed.", min=0
    )
    tasks_per_node: int = setting(
        1, "Processes that train the model of a job together, as torchrun's do.", min=1
    )
    nodes: int = setting(1, "Machines of each job.", min=1)
    cpus_per_task: int | None = setting(None, "Cores of each process.", min=1)
    gpus_per_node: int | None = setting(None, "GPUs of each machine.", min=0)
    array_parallelism: int | None = setting(None, "Simultaneous jobs.", min=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.signal_delay_s >= 60 * self.timeout_min:
            self._fail("signal_delay_s", f"must be less than timeout_min={self.timeout_min}")


@dataclass
class LocalConfig(SubmititConfig):
    """Submitit on this machine: to test a cluster setup, or for several processes per job."""

    _target_: str = "hydra_plugins.korlm.LocalLauncher"
    nodes: int = setting(1, "Machines of each job.", min=1, max=1)


@dataclass
class SlurmConfig(SubmititConfig):
    """SLURM; see ``man sbatch``."""

    _target_: str = "hydra_plugins.korlm.SlurmLauncher"
    name: str = setting("korlm", "Name of the jobs.")
    partition: str | None = setting(None, "Partition.")
    account: str | None = setting(None, "Account.")
    qos: str | None = setting(None, "Quality of service.")
    constraint: str | None = setting(None, "Required features of the machines.")
    mem_gb: float | None = setting(None, "Memory of each machine.", unit="GB", above=0)
    setup: list[str] = setting(list, "Commands before Python, such as 'module load cuda'.")
    additional_parameters: dict[str, Any] = setting(
        dict, "Other options of sbatch, such as +hydra.launcher.additional_parameters.nice=5."
    )


LAUNCHERS: dict[str, type] = {
    "parallel_schema": ParallelConfig,
    "local_schema": LocalConfig,
    "slurm_schema": SlurmConfig,
}


class Sampler(enum.Enum):
    """Methods that propose the settings of a trial."""

    tpe = "tpe"
    random = "random"


class Pruner(enum.Enum):
    """Methods that end trials early."""

    median = "median"
    none = "none"


@dataclass
class GridConfig(Group):
    """hydra/sweeper=basic, the default of -m: all combinations of the given values."""

    _group: ClassVar[str] = "hydra.sweeper"

    _target_: str = "hydra_plugins.korlm.GridSweeper"
    max_batch_size: int | None = setting(None, "Jobs launched at once; null: all.", min=1)
    params: dict[str, Any] | None = setting(
        None, "Setting -> values, such as 0.01,0.02; the command line overrides them."
    )


@dataclass
class SearchConfig(Group):
    """hydra/sweeper=optuna: a search instead of all combinations."""

    _group: ClassVar[str] = "hydra.sweeper"

    _target_: str = "hydra_plugins.korlm.OptunaSweeper"
    n_trials: int = setting(
        20, "Trials in all, including those of resumed searches.", min=1, max=1_000_000
    )
    n_jobs: int = setting(
        1,
        "Trials proposed and launched at once; more than 1 pays with a parallel launcher.",
        min=1,
        max=4096,
    )
    sampler: Sampler = setting(
        Sampler.tpe,
        "tpe: multivariate tree-structured Parzen estimators (Bergstra et al. 2011; Falkner et al. "
        "2018); random: random search (Bergstra and Bengio 2012).",
    )
    seed: int = setting(
        1, "Seed of the sampler; the setting seed is that of the runs.", min=0, max=2**32 - 1
    )
    startup_trials: int = setting(8, "Random trials before tpe uses earlier results.", min=1)
    pruner: Pruner = setting(
        Pruner.median,
        "median: end a trial whose best validation result is worse than the median of the other "
        "trials at the same fraction of training.",
    )
    prune_min_trials: int = setting(
        4, "Complete trials before any other is ended.", min=1, renamed_from="prune_trials"
    )
    prune_warmup_ratio: float = fraction(
        0.3, "Fraction of its training that every trial may use.", renamed_from="prune_share"
    )
    params: dict[str, Any] = setting(
        dict,
        "Setting -> choice(...), range(...), interval(...), tag(log, interval(...)), or one value; "
        "the command line overrides them.",
    )
