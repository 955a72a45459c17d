"""One job of a sweep in a process of its own: what is told to the process, and what it tells.

Both are plain values and what Hydra's launchers are given; a process that starts a job imports
korlm, tells OmegaConf and Hydra what the command line would tell them, and does as the command.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus, run_job, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from korlm import config
from korlm.cli import command as cli
from korlm.cli import output_dirs
from korlm.cli.arguments import key_of
from korlm.config.renamed import register_config_source
from korlm.sweeps.folder import job_settings, register_resolvers, settings_in
from korlm.utils.errors import KorlmError, Pruned


@dataclass(frozen=True)
class JobSpec:
    """A job to be done.

    Attributes:
        context: Hydra's reader of conf/, and callbacks.
        config: the settings of the sweep; its folder stands in them.
        overrides: of the job.
        number: of the job in the sweep.
        folder: of the job, absolute.
        environment: variables to be set before anything heavy is imported.
    """

    context: HydraContext
    config: DictConfig
    overrides: tuple[str, ...]
    number: int
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        value: what a sweeper minimises, if it came to its end.
        failure: why it did not, in one line; empty if it was stopped by a signal.
        kind: class of korlm.utils.errors that says it; empty for what no user can be blamed for.
    """

    value: float | None = None
    failure: str = ""
    kind: str = ""

    @property
    def is_stopped(self) -> bool:
        """Whether somebody stopped it; last.pt is written, if there was anything to write."""
        return self.value is None and not self.failure

    @property
    def is_pruned(self) -> bool:
        """Whether a search ended it early, which is no failure of its own."""
        return self.kind == Pruned.__name__


def run(order: JobSpec) -> JobResult:
    """Does a job in this process, as Hydra's own launcher would; leaves what it leaves."""
    own = job_settings(of_the_job(order.overrides))
    if settings_in(order.folder) not in (None, own):  # it waited in a queue too long
        return JobResult(failure=f"{order.folder}: has become the folder of another job meanwhile")
    task = _task_of(order.config.hydra.job.config_name)
    Plugins.instance()  # finds the readers of files that load_sweep_config needs
    setup_globals()
    config = order.context.config_loader.load_sweep_config(order.config, list(order.overrides))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = order.number
        config.hydra.sweep.dir = str(order.folder.parent)
        config.hydra.sweep.subdir = order.folder.name
    try:
        ended = run_job(
            hydra_context=order.context,
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except KeyboardInterrupt:
        return JobResult()
    if ended.status is JobStatus.COMPLETED:
        return JobResult(value=ended.return_value)
    error = ended._return_value  # the property raises it
    if isinstance(error, KorlmError):
        return JobResult(failure=str(error), kind=type(error).__name__)
    return JobResult(failure=format_exception(error))


def of_the_job(overrides: Sequence[str]) -> list[str]:
    """Those that make a job what it is; Hydra's own say where and how it runs."""
    return [override for override in overrides if not key_of(override).startswith("hydra")]


def format_exception(error: BaseException) -> str:
    """What is not a user's mistake, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _task_of(command: str) -> Callable[[DictConfig], Any]:
    """Return what a command does with one job, in a process that it did not start.

    Args:
        command: its module in korlm.
    """
    # As a rule the command's own module is __main__ instead, and that of another process.
    importlib.import_module(f"korlm.{command}")
    hydra.version.setbase(cli.VERSION_BASE)
    logging.raiseExceptions = False  # as in a command's own process
    config.register()
    register_config_source(command)
    output_dirs.register_resolvers()
    register_resolvers()
    return cli.TASKS[command]
