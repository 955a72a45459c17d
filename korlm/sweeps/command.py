"""Add to a command what only a sweep needs: resuming, locking jobs, recording failures."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from korlm.cli import command as cli
from korlm.cli.output_dirs import is_sweep, output_dir
from korlm.config.objective import check_objective
from korlm.runs.directories import FAILED, is_finished
from korlm.sweeps import hydra_plugins
from korlm.sweeps.callback import SweepTable
from korlm.sweeps.folder import register_resolvers, sweep_resume_command, with_stored_arguments
from korlm.sweeps.results import note_failure
from korlm.sweeps.search.pruning import PruningCallback, open_callback
from korlm.utils import dist_env
from korlm.utils.errors import Interrupted, KorlmError, Pruned, output_errors

logger = logging.getLogger(__name__)


class Multirun(cli.SingleRun):
    """Runs a command once, or with ``-m`` once for each combination of settings."""

    def register(self) -> None:
        """Register sweepers, launchers and the resolvers of a sweep's folders."""
        super().register()
        hydra_plugins.register()
        register_resolvers()

    def complete_arguments(self, command: str) -> None:
        """Add the arguments that a sweep was started with, if one is resumed."""
        if command != "train":
            return
        sys.argv[1:] = with_stored_arguments(sys.argv[1:])
        for argument in sys.argv[1:]:
            key, _, value = argument.partition("=")
            if key == "objective":  # checked here, so that it is reported once, not by every job
                check_objective(value)

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """Run a job; in a sweep, an exception ends only this job, and its folder records it."""
        if not is_sweep():
            with super().job():
                yield
            return
        with exclusive_job(output_dir()):
            try:
                with output_errors(output_dir()):
                    if dist_env.current_rank().is_main_process:
                        (output_dir() / FAILED).unlink(missing_ok=True)
                    yield
            except (Exception, KeyboardInterrupt) as error:
                _end_job(error)
            finally:
                gc.collect()  # a run contains reference cycles; free their memory for the next job
                if not gc.get_freeze_count():
                    gc.freeze()  # later collections skip the imported modules: 0.1 s less

    def finish(self) -> Path | None:
        """Write and log the table of a sweep; return its folder, None if there is none."""
        return SweepTable.write_results()

    def resume_hint(self, folder: Path, arguments: Sequence[str]) -> str:
        """Return the command that resumes a sweep."""
        return sweep_resume_command(folder, arguments)


def command(
    config_name: str, literal: Collection[str] = (), renamed: Mapping[str, str] | None = None
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Return a decorator for a command that takes ``-m``; see ``korlm.cli.command.command``."""
    return cli.command(config_name, literal, renamed, Multirun())


def pruning_callback(objective: str) -> contextlib.AbstractContextManager[PruningCallback | None]:
    """Return a context manager that yields the pruning callback of this job.

    It yields None if this job is not a trial of a search.
    """
    if not is_sweep():
        return contextlib.nullcontext()
    return open_callback(output_dir().parent, cli.command_overrides(), objective)


def _end_job(error: BaseException) -> NoReturn:
    """Record the exception of a job, and raise it; Hydra then continues with the next job."""
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        raise KeyboardInterrupt from None  # stops the whole sweep
    assert isinstance(error, Exception)
    if dist_env.current_rank().is_main_process:
        note_failure(output_dir(), error)
    if isinstance(error, Pruned):
        logger.info("job %s of the sweep: %s", output_dir().name, error)
        raise error
    unexpected = not isinstance(error, KorlmError)
    logger.error("job %s of the sweep failed: %s", output_dir().name, error, exc_info=unexpected)
    link: BaseException | None = error
    while link is not None:  # Hydra keeps the exception, and its frames would keep the model
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    raise error


@contextlib.contextmanager
def exclusive_job(job: Path) -> Iterator[None]:
    """Hold the lock of a job within the block, since other processes may resume the sweep too."""
    lock = job / ".lock"
    if not dist_env.current_rank().is_main_process:
        yield
        return
    if is_finished(job):
        with contextlib.suppress(OSError):  # a process that was killed at its end has left it
            lock.unlink(missing_ok=True)
        yield
        return
    from korlm.utils.io.locks import exclusive_lock  # slow import

    taken = f"{job}: another process works on this job; wait for it, or stop it first"
    with output_errors(job), exclusive_lock(lock, taken):
        yield
