"""Hydra callback that writes the results table of a sweep."""

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

from korlm.config.objective import LARGER_IS_BETTER
from korlm.runs.directories import is_finished
from korlm.sweeps.folder import (
    begin_sweep,
    jobs_by_settings,
    remove_incomplete_jobs,
    run_command,
)
from korlm.sweeps.results import (
    MAX_SHOWN,
    Job,
    _cell,
    _shown,
    build_rows,
    column_of,
    comparable,
    read_jobs,
    varying,
)
from korlm.sweeps.search.space import swept_keys
from korlm.utils.errors import ConfigError
from korlm.utils.io.atomic_files import atomic_write

logger = logging.getLogger(__name__)


class SweepTable(Callback):
    """Hydra's word of where a sweep begins; its own word of the end is lost if a job fails.

    Attributes:
        folder: of the sweep that this process began, if it did.
        objective: of that sweep.
        finished: how many of its jobs earlier commands had finished.
    """

    folder: ClassVar[Path | None] = None
    objective: ClassVar[str] = "valid.perplexity"
    finished: ClassVar[int] = 0

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Called before the first job."""
        try:
            folder = Path(str(config.hydra.sweep.dir)).absolute()
        except OmegaConfBaseException:  # the sweeper meets it next, and what it says is heard
            return
        SweepTable.folder, SweepTable.objective = folder, config.objective
        jobs_by_settings.cache_clear()
        params = config.hydra.sweeper.get("params") or {}
        in_file = (f"{key}={value}" for key, value in params.items())
        try:
            remove_incomplete_jobs(folder)
            begin_sweep(folder, swept_keys([*in_file, *config.hydra.overrides.task]))
            names = jobs_by_settings(folder).values()  # which the jobs ask for next
        except (ConfigError, HydraException):  # a damaged job, or a wrong override: as above
            return
        SweepTable.finished = sum(is_finished(folder / name) for name in names)

    @classmethod
    def tell(cls) -> Path | None:
        """Writes and prints the table of the sweep that has ended; gives its folder."""
        folder, cls.folder = cls.folder, None
        if folder and (jobs := read_jobs(folder, cls.objective)):
            _write_table(folder, jobs, cls.finished)
        elif folder:
            with contextlib.suppress(OSError):  # those that hold something stay
                for empty in (folder, *list(folder.parents)[:2]):
                    empty.rmdir()
        return folder


def _write_table(folder: Path, jobs: Sequence[Job], finished: int) -> None:
    objective = comparable(jobs, SweepTable.objective)
    if objective != SweepTable.objective:
        logger.warning(
            "the jobs differ in their tokens, and so %s cannot be compared: ordered by %s",
            SweepTable.objective,
            objective,
        )
    rows = build_rows(jobs, objective)
    path = folder / "results.tsv"
    lines = ["\t".join(_cell(value) for value in row) + "\n" for row in rows]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    pruned = sum(job.is_pruned for job in jobs)
    failed = sum(bool(job.failure) for job in jobs) - pruned
    logger.info(
        "%d jobs, the best first by %s%s%s%s; %s:\n%s%s",
        len(jobs),
        objective,
        f", {finished} finished before" if finished else "",
        f", {pruned} pruned" if pruned else "",
        f", {failed} without result" if failed else "",
        path,
        _shown(rows[: MAX_SHOWN + 1]),
        f"\n… and {len(jobs) - MAX_SHOWN} more" if len(jobs) > MAX_SHOWN else "",
    )
    _draw(folder / "sweep.png", jobs, objective)
    if not jobs[0].failure:
        logger.info("best: %s", run_command(folder / jobs[0].name))


def _draw(path: Path, jobs: Sequence[Job], objective: str) -> None:
    """Writes the picture, if the jobs differ in a setting and have results."""
    done = [job for job in jobs if not job.failure]
    keys = varying(done)
    if not keys:
        return
    from korlm.sweeps.plot import draw_sweep  # matplotlib takes its time

    values = [job.figures.get(column_of(objective), math.nan) for job in done]
    settings = {key: [job.overrides.get(key, "") for job in done] for key in keys}
    larger = objective.partition(".")[2] in LARGER_IS_BETTER
    counted = [job.overrides.get("model") == "ngram" for job in done]
    if draw_sweep(path, (objective, values), settings, larger, counted):
        logger.info("%s: the picture of the sweep", path)
