"""Run a command with Hydra: compose and check settings, print errors in one line, exit.

Exit codes: 0 success; 1 a user's mistake, reported in one line on stderr; 130 after Ctrl-C. Until
the settings are checked, no heavy package (torch, konlpy, tensorboard) is imported.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from korlm import config
from korlm._version import __version__
from korlm.cli.arguments import (
    check_arguments,
    check_groups,
    flags_first,
    is_multirun,
    join_literals,
    key_of,
    to_hydra_grammar,
    typed_imports,
)
from korlm.cli.config_source import register_config_source
from korlm.cli.help import help_text
from korlm.cli.output_dirs import (
    Refused,
    RunFolder,
    output_dir,
    register_resolvers,
    remove_empty_parents,
    remove_unused,
)
from korlm.config import registry
from korlm.config.error_messages import format_config_error
from korlm.config.keys import HYDRA_PATHS, conf_dir, path_keys, rename_override
from korlm.config.serialization import to_settings
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError, Interrupted, KorlmError, OutputKey, output_errors
from korlm.utils.io.streams import set_up_streams
from korlm.utils.signals import signals_as_keyboard_interrupt

logger = logging.getLogger(__name__)

_FULL_ERROR = "HYDRA_FULL_ERROR"

# New objects between two collections of garbage. Python's 700 cost 0.4 s while PyTorch is imported.
# A training step leaves no reference cycles, which would need to be collected.
GC_THRESHOLD = 5000

SPIN_COUNT = "3000"  # how often a thread of libgomp polls before it sleeps: tens of microseconds

WRONG_SETTINGS = (KorlmError, HydraException, OmegaConfBaseException)

VERSION_BASE = "1.3"  # of Hydra


def command_overrides() -> list[str]:
    """Return the overrides of this job."""
    return list(HydraConfig.get().overrides.task)


def _stop(message: str, code: int) -> NoReturn:
    """Print a message on stderr, and exit; of several processes, rank 0 prints."""
    with contextlib.suppress(OSError):  # a pipe or a terminal that is closed
        sys.stdout.flush()
    line, rank = f"korlm: {message}\n", dist_env.current_rank()
    if rank.is_alone:
        with contextlib.suppress(OSError):
            sys.stderr.write(line)
    else:
        from korlm.utils.distributed import report_error_once

        report_error_once(rank, line)
    raise SystemExit(code)


def _remove_empty_run_dir(folder: Path) -> None:
    """Remove a run directory that holds settings and logs only; see ``remove_empty_parents``."""
    if HydraConfig.get().output_subdir is None or RunFolder.had_files:
        return  # not created by this command
    handlers = [h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)]
    without_results = {".hydra", *(Path(handler.baseFilename).name for handler in handlers)}
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if ".hydra" not in names or names - without_results:
        return
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):  # such as a full disk
            handler.close()
    shutil.rmtree(folder, ignore_errors=True)
    remove_empty_parents(folder)


@contextlib.contextmanager
def _silence_io_errors() -> Iterator[None]:
    """Suppress tracebacks of OSErrors in logging handlers and other threads.

    A closed pipe or a full disk must not end a run because of a log line. A thread that cannot
    write its file fails its caller as well, which reports the error in one line.
    """
    old_hook, old_raise = threading.excepthook, logging.raiseExceptions

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not issubclass(failed.exc_type, OSError):
            old_hook(failed)

    threading.excepthook, logging.raiseExceptions = hook, False
    try:
        yield
    finally:
        threading.excepthook, logging.raiseExceptions = old_hook, old_raise


@contextlib.contextmanager
def _adapted_hydra() -> Iterator[None]:
    """Make Hydra raise exceptions within the block instead of printing them and exiting.

    Hydra would also compose all settings a first time, in 0.16 s of CPU time, to read
    ``hydra.mode``. Here only the command line may set this key.
    """
    old_full_error, value_of_job = os.environ.get(_FULL_ERROR), JobReturn.return_value
    get_mode = Hydra.get_mode

    def typed_mode(main: Hydra, config_name: str, overrides: list[str]) -> Any:
        is_typed = any(key_of(override) == "hydra.mode" for override in overrides)
        return get_mode(main, config_name, overrides) if is_typed else None

    def value_or_raise(job: JobReturn) -> Any:
        if job.status is JobStatus.FAILED:
            raise job._return_value
        return job._return_value

    setter = value_of_job.fset  # type: ignore[attr-defined]  # a property
    JobReturn.return_value = property(value_or_raise, setter)  # type: ignore[assignment, method-assign]
    Hydra.get_mode = typed_mode  # type: ignore[assignment, method-assign]
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
    finally:
        JobReturn.return_value = value_of_job  # type: ignore[method-assign]
        Hydra.get_mode = get_mode  # type: ignore[method-assign]
        del os.environ[_FULL_ERROR]
        if old_full_error is not None:
            os.environ[_FULL_ERROR] = old_full_error


class ConfDirsOfImports(SearchPathPlugin):
    """Makes Hydra search the folders ``conf`` of the modules that ``imports`` names."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders, after korlm's own."""
        for folder in registry.conf_dirs():
            search_path.append("imports", folder.as_uri())


class SingleRun:
    """Runs a command once; ``korlm.sweeps.command.Multirun`` extends it by Hydra's multirun."""

    def register(self) -> None:
        """Register the Hydra plugins and resolvers that the command needs."""
        register_resolvers()

    def complete_arguments(self, command: str) -> None:
        """Add stored arguments of an earlier command to ``sys.argv``."""

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """Turn an exception of the job into one line on stderr and an exit code."""
        try:
            with output_errors(output_dir()):
                yield
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, Interrupted):
                _stop(str(error), 130)
            if dist_env.current_rank().is_main_process:
                _remove_empty_run_dir(output_dir())
            if isinstance(error, KeyboardInterrupt):
                _stop("interrupted", 130)
            if not isinstance(error, KorlmError):
                raise
            _stop(str(error), 1)

    def finish(self) -> Path | None:
        """Write the results of a sweep, and return its folder; None if there is no sweep."""
        return None

    def resume_hint(self, folder: Path, arguments: Sequence[str]) -> str:
        """Return the command that resumes the jobs in a folder."""
        raise AssertionError(folder)  # a single run has no such folder


def _settings_of(tree: DictConfig, command: str) -> Any:
    """Convert and check the settings of a job."""
    try:
        settings = to_settings(tree)
    except OmegaConfBaseException as error:
        raise ConfigError(format_config_error(error, command)) from error
    check_imports(settings)
    if dist_env.current_rank().is_main_process:
        warn_without_effect(settings, command_overrides())
    return settings


def check_imports(settings: config.CommandSettings) -> None:
    """Raise ``ConfigError`` if ``imports`` has modules that only a YAML file names."""
    if missing := sorted(set(settings.imports) - set(registry.imported())):
        raise ConfigError(
            f"imports=[{','.join(missing)}]: must be typed on the command line, since modules are "
            "imported before any settings are read"
        )


def warn_without_effect(settings: config.Group, given: Sequence[str]) -> None:
    """Log a warning about the given overrides that have no effect, by reason."""
    reasons = settings.without_effect()
    for group, value in vars(settings).items():
        if isinstance(value, config.Group):
            inner = value.without_effect()
            reasons = {f"{group}.{key}": reason for key, reason in inner.items()} | reasons
    ignored: dict[str, list[str]] = {}
    for override in given:
        key = key_of(override)
        if reason := reasons.get(key) or reasons.get(key.split(".")[0]):
            ignored.setdefault(reason, []).append(override.lstrip("+"))
    for reason, overrides in ignored.items():
        verb = "has" if len(overrides) == 1 else "have"
        logger.warning("%s %s no effect: %s", ", ".join(overrides), verb, reason)


def command(
    config_name: str,
    literal: Collection[str] = (),
    renamed: Mapping[str, str] | None = None,
    runner: SingleRun | None = None,
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Return a decorator that turns a function of settings into a command.

    Args:
        config_name: name of the command, and of its file under conf/.
        literal: keys whose values are texts that need no quotes.
        renamed: key as typed -> key of the settings. A key with the name of a group under conf/
            must be renamed, since Hydra would take its value for a choice.
        runner: runs the jobs; None: one job.
    """
    runner = runner or SingleRun()

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        def task(tree: DictConfig) -> Any:
            if not dist_env.current_rank().is_main_process:  # one log, and no file of its own
                logging.getLogger().setLevel(logging.WARNING)
                logging.getLogger().handlers[:] = [logging.StreamHandler()]
            with runner.job():
                return function(_settings_of(tree, config_name))

        def run() -> None:
            _run(config_name, task, literal, renamed or {}, runner)

        return run

    return decorate


def _run(
    name: str,
    task: Callable[[DictConfig], Any],
    literal: Collection[str],
    renamed: Mapping[str, str],
    runner: SingleRun,
) -> None:
    """Run a command: parse arguments, compose settings, run jobs, exit."""
    set_up_streams()
    _configure_waiting_threads()
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
        if _answer(name, typed, renamed):
            return
        words = typed = [rename_override(word, name, warn=True) for word in typed]
        OutputKey.name = _output_key(name, typed)
        check_arguments(name, typed)
        sys.argv[1:] = words = to_hydra_grammar(typed, literal, renamed, path_keys(name))
        register_config_source(name)
        runner.register()
        Plugins.instance().register(ConfDirsOfImports)
        config.store_schemas()
        with (
            _silence_io_errors(),
            _adapted_hydra(),
            signals_as_keyboard_interrupt(),
            output_errors(Path("outputs")),
        ):
            try:
                if is_multirun(words):
                    runner.complete_arguments(name)
                check_groups(name, sys.argv[1:])
                main = hydra.main(str(conf_dir()), name, version_base=VERSION_BASE)
                main(run_job)()
            finally:
                folder = runner.finish()
                remove_unused()
    except Exception as error:
        if _was_interrupted(error):
            _stop(_interrupted(runner, folder, words), 130)
        # Before the first job, every exception is an error in the settings.
        is_about_settings = not (has_started or folder) or isinstance(error, WRONG_SETTINGS)
        if os.environ.get(_FULL_ERROR) == "1" or not is_about_settings:
            raise
        _stop(_as_typed(format_config_error(error, name), words, typed), 1)
    except Refused as refused:
        _stop(_as_typed(str(refused), words, typed), 1)
    except KeyboardInterrupt:
        _stop(_interrupted(runner, folder, words), 130)


def _configure_waiting_threads() -> None:
    """Let OpenMP threads that wait spin for some microseconds, unless the environment says more.

    Threads that spin for long are slow on a busy machine. Threads that sleep at once wake so
    slowly that two take longer than one.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def _interrupted(runner: SingleRun, folder: Path | None, words: Sequence[str]) -> str:
    hint = f"; resume with: {runner.resume_hint(folder, words)}" if folder else ""
    return f"interrupted{hint}"


def _was_interrupted(error: BaseException | None) -> bool:
    """Return True if an exception was caused by Ctrl-C; OmegaConf may raise another one for it.

    >>> try:
    ...     try:
    ...         raise KeyboardInterrupt
    ...     finally:
    ...         None.flags
    ... except AttributeError as error:
    ...     _was_interrupted(error)
    True
    """
    if error is None or isinstance(error, KeyboardInterrupt):
        return error is not None
    return _was_interrupted(error.__cause__) or _was_interrupted(error.__context__)


def _answer(command: str, typed: Sequence[str], renamed: Mapping[str, str]) -> bool:
    """Print the help or the version, and return True, if ``--help`` or ``--version`` was given.

    Hydra takes seconds for its own ``--help``, which shows no more than keys and defaults.
    """
    if "--version" in typed:
        print(f"korlm {__version__}")
    elif not {"--help", "-h"}.isdisjoint(typed):
        print(help_text(command, typed, renamed), end="")
    else:
        return False
    return True


def _output_key(command: str, typed: Sequence[str]) -> str:
    """Return the setting that selects another output folder, for ``OutputKey``."""
    keys = {word.partition("=")[0] for word in typed}
    for key in HYDRA_PATHS:
        if key in keys:
            return f"{key}=FOLDER"
    defaults = {"prepare": "outputs=FOLDER", "train": "outputs=FOLDER", "evaluate": "output=FOLDER"}
    return defaults.get(command, "")


def _as_typed(message: str, words: Sequence[str], typed: Sequence[str]) -> str:
    """Return a message with arguments as the user typed them instead of in Hydra's grammar."""
    originals = {word: old for word, old in zip(words, typed, strict=True) if word != old}
    if not originals:
        return message
    alternatives = "|".join(map(re.escape, sorted(originals, key=len, reverse=True)))
    pattern = rf"(?<!\w)({alternatives})(?!\w)"
    return re.sub(pattern, lambda match: originals[match[0]], message)
