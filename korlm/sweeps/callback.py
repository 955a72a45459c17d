"""Write the results table of a sweep, by a Hydra callback."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from korlm.cli.output_dirs import Refused, is_sweep
from korlm.config.metrics import is_larger_better
from korlm.runs.directories import is_finished
from korlm.sweeps.folder import (
    begin_sweep,
    job_settings,
    jobs_by_settings,
    read_job_settings,
    run_command,
)
from korlm.sweeps.results import (
    MAX_SHOWN,
    JobResult,
    build_rows,
    column_of,
    comparable_objective,
    printed_table,
    read_jobs,
    varying,
)
from korlm.sweeps.search.space import swept_keys
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.tables import tsv_row

logger = logging.getLogger(__name__)


class SweepTable(Callback):
    """Records the sweep when Hydra starts it, and writes its results at the end.

    Hydra does not call ``on_multirun_end`` if a job fails; ``sweeps/command.py`` calls
    ``write_results`` instead.

    Attributes:
        folder: folder of the sweep that this process started; None: it started none.
        objective: objective of that sweep.
        finished: number of jobs that earlier commands had finished.
    """

    folder: ClassVar[Path | None] = None
    objective: ClassVar[str] = "valid.perplexity"
    finished: ClassVar[int] = 0

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Record the sweep, and find its earlier jobs; Hydra calls this before the first job."""
        try:
            folder = Path(str(config.hydra.sweep.dir)).absolute()
        except OmegaConfBaseException:  # the sweeper raises it again, with a message
            return
        SweepTable.folder, SweepTable.objective = folder, config.objective
        params = config.hydra.sweeper.get("params") or {}
        from_file = (f"{key}={value}" for key, value in params.items())
        try:
            begin_sweep(folder, swept_keys([*from_file, *config.hydra.overrides.task]))
            names = jobs_by_settings(folder).values()  # the jobs use this cached result
        except (ConfigError, HydraException):  # a damaged job or wrong override; raised again later
            return
        SweepTable.finished = sum(is_finished(folder / name) for name in names)

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Refuse a folder that another job has taken while this job of a sweep was in a queue."""
        if not is_sweep(config):
            return
        folder = Path(str(config.hydra.run.dir))
        settings = job_settings(config.hydra.overrides.task)
        if dist_env.current_rank().is_main_process and read_job_settings(folder) not in (
            None,
            settings,
        ):
            raise Refused(f"{folder}: is now the folder of another job")

    @classmethod
    def write_results(cls) -> Path | None:
        """Write and log the results of the sweep; return its folder, None if there is none."""
        folder, cls.folder = cls.folder, None
        if folder and (jobs := read_jobs(folder, cls.objective)):
            _write_table(folder, jobs, cls.finished)
        elif folder:
            with contextlib.suppress(OSError):  # folders that are not empty stay
                for empty in (folder, *list(folder.parents)[:2]):
                    empty.rmdir()
        return folder


def _write_table(folder: Path, jobs: Sequence[JobResult], finished: int) -> None:
    objective = comparable_objective(jobs, SweepTable.objective)
    if objective != SweepTable.objective:
        logger.warning(
            "the jobs have different tokens, so %s cannot be compared; ordered by %s",
            SweepTable.objective,
            objective,
        )
    rows = build_rows(jobs, objective)
    path = folder / "results.tsv"
    with atomic_write(path) as temporary:
        temporary.write_text("".join(map(tsv_row, rows)), encoding="utf-8")
    pruned = sum(job.is_pruned for job in jobs)
    failed = sum(bool(job.failure) for job in jobs) - pruned
    logger.info(
        "%d jobs, best first by %s%s%s%s; %s:\n%s%s",
        len(jobs),
        objective,
        f", {finished} finished before" if finished else "",
        f", {pruned} pruned" if pruned else "",
        f", {failed} without result" if failed else "",
        path,
        printed_table(rows[: MAX_SHOWN + 1]),
        f"\n… and {len(jobs) - MAX_SHOWN} more" if len(jobs) > MAX_SHOWN else "",
    )
    _draw(folder / "sweep.png", jobs, objective)
    if not jobs[0].failure:
        logger.info("best: %s", run_command(folder / jobs[0].name))


def _draw(path: Path, jobs: Sequence[JobResult], objective: str) -> None:
    """Plot the sweep, if its finished jobs differ in a setting."""
    finished = [job for job in jobs if not job.failure]
    keys = varying(finished)
    if not keys:
        return
    from korlm.sweeps.plot import draw_sweep  # slow import

    values = [job.metrics.get(column_of(objective), math.nan) for job in finished]
    settings = {key: [job.overrides.get(key, "") for job in finished] for key in keys}
    larger_is_better = is_larger_better(objective.partition(".")[2])
    is_ngram = [job.overrides.get("model") == "ngram" for job in finished]
    if draw_sweep(path, (objective, values), settings, larger_is_better, is_ngram):
        logger.info("%s: plot of the sweep", path)
