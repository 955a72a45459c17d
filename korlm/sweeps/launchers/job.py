"""One job of a sweep in a separate process: its specification, its result, and running it.

Both are pickled. The process imports korlm, registers settings and resolvers as the command line
does, and runs the command's function.
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
from korlm.cli.config_source import register_config_source
from korlm.config import registry
from korlm.sweeps.folder import job_settings, register_resolvers, settings_in
from korlm.utils.errors import KorlmError, Pruned


@dataclass(frozen=True)
class JobSpec:
    """Specification of a job.

    Attributes:
        context: Hydra's config loader and callbacks.
        config: settings of the sweep, including its folder.
        overrides: overrides of the job.
        number: index of the job in the sweep.
        folder: folder of the job, absolute.
        environment: environment variables to set before heavy imports.
    """

    context: HydraContext
    config: DictConfig
    overrides: tuple[str, ...]
    number: int
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResult:
    """Result of a job.

    Attributes:
        value: value to minimize; None if the job did not finish.
        failure: why it did not finish, in one line; empty if it was stopped by a signal.
        kind: exception class in korlm.utils.errors; empty for unexpected exceptions.
    """

    value: float | None = None
    failure: str = ""
    kind: str = ""

    @property
    def is_stopped(self) -> bool:
        """Return whether a signal stopped it; it has written last.pt if there was progress."""
        return self.value is None and not self.failure

    @property
    def is_pruned(self) -> bool:
        """Return whether a search pruned it."""
        return self.kind == Pruned.__name__


def run(spec: JobSpec) -> JobResult:
    """Run a job in this process as Hydra's basic launcher does, with the same files."""
    own = job_settings(of_the_job(spec.overrides))
    if settings_in(spec.folder) not in (None, own):  # reused while this job waited in a queue
        return JobResult(failure=f"{spec.folder}: is now the folder of another job")
    registry.import_modules(spec.config.imports)  # typed for this sweep, see check_override
    task = _task_of(spec.config.hydra.job.config_name)
    Plugins.instance()  # registers the config sources that load_sweep_config needs
    setup_globals()
    config = spec.context.config_loader.load_sweep_config(spec.config, list(spec.overrides))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = spec.number
        config.hydra.sweep.dir = str(spec.folder.parent)
        config.hydra.sweep.subdir = spec.folder.name
    try:
        ended = run_job(
            hydra_context=spec.context,
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
    """Return the overrides of the job without Hydra's own."""
    return [override for override in overrides if not key_of(override).startswith("hydra")]


def format_exception(error: BaseException) -> str:
    """Return an unexpected exception as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def _task_of(command: str) -> Callable[[DictConfig], Any]:
    """Return the function of a command, set up in this process.

    Args:
        command: name of the module in korlm.
    """
    # In the command's own process this module is __main__.
    importlib.import_module(f"korlm.{command}")
    hydra.version.setbase(cli.VERSION_BASE)
    logging.raiseExceptions = False  # as in the command's own process
    config.store_schemas()
    register_config_source(command)
    output_dirs.register_resolvers()
    register_resolvers()
    return cli.TASKS[command]
