"""Define commands: compose settings with Hydra, run one job or the jobs of a sweep, exit.

Until the settings are checked, no heavy package (torch, konlpy, tensorboard) is imported.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from korlm import config
from korlm.cli import command as cli
from korlm.cli.arguments import (
    check_arguments,
    check_groups,
    flags_first,
    is_multirun,
    join_literals,
    to_hydra_grammar,
    typed_imports,
)
from korlm.cli.compose import register_config_source
from korlm.cli.output_dirs import Refused, is_sweep, output_dir, register_resolvers, remove_unused
from korlm.config import registry
from korlm.config.error_messages import format_config_error
from korlm.config.keys import conf_dir, path_keys, rename_override
from korlm.config.metrics import check_objective
from korlm.runs.directories import FAILED, is_finished
from korlm.sweeps import hydra_plugins
from korlm.sweeps.callback import SweepTable
from korlm.sweeps.folder import register_resolvers as folder_resolvers
from korlm.sweeps.folder import sweep_resume_command, with_stored_arguments
from korlm.sweeps.results import note_failure
from korlm.sweeps.search.database import PruningCallback, open_callback
from korlm.utils import dist_env
from korlm.utils.errors import Interrupted, KorlmError, OutputKey, Pruned, output_errors
from korlm.utils.io.atomic_files import locked
from korlm.utils.io.streams import set_up_streams
from korlm.utils.signals import signals_as_keyboard_interrupt

logger = logging.getLogger(__name__)

# New objects between two collections of garbage. Python's 700 cost 0.4 s while PyTorch is imported.
# A training step leaves no reference cycles, which would need to be collected.
GC_THRESHOLD = 5000

WRONG_SETTINGS = (KorlmError, HydraException, OmegaConfBaseException)


def command(
    config_name: str, literal: Collection[str] = (), renamed: Mapping[str, str] | None = None
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Return a decorator that turns a function of settings into a command.

    Args:
        config_name: name of the command, and of its file under conf/.
        literal: keys whose values are texts that need no quotes.
        renamed: key as typed -> key of the settings. A key with the name of a group under conf/
            must be renamed, since Hydra would take its value for a choice.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        def task(tree: DictConfig) -> Any:
            if not dist_env.current_rank().is_main_process:  # one log, and no file of its own
                logging.getLogger().setLevel(logging.WARNING)
                logging.getLogger().handlers[:] = [logging.StreamHandler()]
            with _sweep_job() if is_sweep() else cli.single_run():
                return function(cli.settings_of(tree, config_name))

        return lambda: _run(config_name, task, literal, renamed or {})

    return decorate


def _run(
    name: str,
    task: Callable[[DictConfig], Any],
    literal: Collection[str],
    renamed: Mapping[str, str],
) -> None:
    """Run a command: parse arguments, compose settings, run jobs, exit."""
    set_up_streams()
    cli.configure_waiting_threads()
    gc.set_threshold(GC_THRESHOLD)
    has_started, folder = False, None
    words = typed = sys.argv[1:]

    @functools.wraps(task)
    def run_job(tree: DictConfig) -> Any:
        nonlocal has_started
        has_started = True
        return task(tree)

    try:
        words = typed = flags_first(join_literals(typed, literal))
        registry.import_modules(typed_imports(typed))
        if cli.answer(name, typed, renamed):
            return
        words = typed = [rename_override(word, name, warn=True) for word in typed]
        OutputKey.name = cli.output_key(name, typed)
        check_arguments(name, typed)
        sys.argv[1:] = words = to_hydra_grammar(typed, literal, renamed, path_keys(name))
        _register(name)
        with (
            cli.silence_io_errors(),
            cli.adapted_hydra(),
            signals_as_keyboard_interrupt(),
            output_errors(Path("outputs")),
        ):
            try:
                if name == "train" and is_multirun(words):
                    _add_stored_arguments()
                check_groups(name, sys.argv[1:])
                main = hydra.main(str(conf_dir()), name, version_base=cli.VERSION_BASE)
                main(run_job)()
            finally:
                folder = SweepTable.write_results()
                remove_unused()
    except Exception as error:
        if cli.was_interrupted(error):
            _stop_interrupted(folder, words)
        # Before the first job, every exception is an error in the settings.
        is_about_settings = not (has_started or folder) or isinstance(error, WRONG_SETTINGS)
        if os.environ.get(cli.FULL_ERROR) == "1" or not is_about_settings:
            raise
        cli.stop(cli.with_typed_arguments(format_config_error(error, name), words, typed), 1)
    except Refused as refused:
        cli.stop(cli.with_typed_arguments(str(refused), words, typed), 1)
    except KeyboardInterrupt:
        _stop_interrupted(folder, words)


def _register(name: str) -> None:
    """Register resolvers, plugins and schemas with Hydra."""
    register_config_source(name)
    register_resolvers()
    folder_resolvers()
    hydra_plugins.register()
    Plugins.instance().register(cli.ConfDirsOfImports)
    config.store_schemas()


def _add_stored_arguments() -> None:
    """Add the arguments that a sweep was started with, if one is resumed."""
    sys.argv[1:] = with_stored_arguments(sys.argv[1:])
    for argument in sys.argv[1:]:
        key, _, value = argument.partition("=")
        if key == "objective":  # checked here, so that it is reported once, not by every job
            check_objective(value)


def _stop_interrupted(folder: Path | None, words: Sequence[str]) -> NoReturn:
    hint = f"; resume with: {sweep_resume_command(folder, words)}" if folder else ""
    cli.stop(f"interrupted{hint}", 130)


@contextlib.contextmanager
def _sweep_job() -> Iterator[None]:
    """Run a job of a sweep; an exception ends only this job, and its folder records it."""
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
    taken = f"{job}: another process works on this job; wait for it, or stop it first"
    with output_errors(job), locked(lock, taken):
        yield
