"""Parts of running a command with Hydra: errors in one line, exit codes, checks, ``--help``.

``korlm.sweeps.command`` puts them together. Exit codes: 0 success; 1 a user's mistake, reported in
one line on stderr; 130 after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.hydra import Hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from korlm import config
from korlm._version import __version__
from korlm.cli.arguments import key_of
from korlm.cli.help import help_text
from korlm.cli.output_dirs import RunFolder, output_dir, remove_empty_parents
from korlm.config import registry
from korlm.config.error_messages import format_config_error
from korlm.config.keys import HYDRA_PATHS
from korlm.config.serialization import to_settings
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError, Interrupted, KorlmError, output_errors

logger = logging.getLogger(__name__)

FULL_ERROR = "HYDRA_FULL_ERROR"

SPIN_COUNT = "3000"  # how often a thread of libgomp polls before it sleeps: tens of microseconds

VERSION_BASE = "1.3"  # of Hydra


def command_overrides() -> list[str]:
    """Return the overrides of this job."""
    return list(HydraConfig.get().overrides.task)


def stop(message: str, code: int) -> NoReturn:
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
def silence_io_errors() -> Iterator[None]:
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
def adapted_hydra() -> Iterator[None]:
    """Make Hydra raise exceptions within the block instead of printing them and exiting.

    Hydra would also compose all settings a first time, in 0.16 s of CPU time, to read
    ``hydra.mode``. Here only the command line may set this key.
    """
    old_full_error, value_of_job = os.environ.get(FULL_ERROR), JobReturn.return_value
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
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        JobReturn.return_value = value_of_job  # type: ignore[method-assign]
        Hydra.get_mode = get_mode  # type: ignore[method-assign]
        del os.environ[FULL_ERROR]
        if old_full_error is not None:
            os.environ[FULL_ERROR] = old_full_error


class ConfDirsOfImports(SearchPathPlugin):
    """Makes Hydra search the folders ``conf`` of the modules that ``imports`` names."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders, after korlm's own."""
        for folder in registry.conf_dirs():
            search_path.append("imports", folder.as_uri())


@contextlib.contextmanager
def single_run() -> Iterator[None]:
    """Turn an exception of a run into one line on stderr and an exit code."""
    try:
        with output_errors(output_dir()):
            yield
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, Interrupted):
            stop(str(error), 130)
        if dist_env.current_rank().is_main_process:
            _remove_empty_run_dir(output_dir())
        if isinstance(error, KeyboardInterrupt):
            stop("interrupted", 130)
        if not isinstance(error, KorlmError):
            raise
        stop(str(error), 1)


def settings_of(tree: DictConfig, command: str) -> Any:
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


def configure_waiting_threads() -> None:
    """Let OpenMP threads that wait spin for some microseconds, unless the environment says more.

    Threads that spin for long are slow on a busy machine. Threads that sleep at once wake so
    slowly that two take longer than one.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def was_interrupted(error: BaseException | None) -> bool:
    """Return True if an exception was caused by Ctrl-C; OmegaConf may raise another one for it.

    >>> try:
    ...     try:
    ...         raise KeyboardInterrupt
    ...     finally:
    ...         None.flags
    ... except AttributeError as error:
    ...     was_interrupted(error)
    True
    """
    if error is None or isinstance(error, KeyboardInterrupt):
        return error is not None
    return was_interrupted(error.__cause__) or was_interrupted(error.__context__)


def answer(command: str, typed: Sequence[str], renamed: Mapping[str, str]) -> bool:
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


def output_key(command: str, typed: Sequence[str]) -> str:
    """Return the setting that selects another output folder, for ``OutputKey``."""
    keys = {word.partition("=")[0] for word in typed}
    for key in HYDRA_PATHS:
        if key in keys:
            return f"{key}=FOLDER"
    defaults = {"prepare": "outputs=FOLDER", "train": "outputs=FOLDER", "evaluate": "output=FOLDER"}
    return defaults.get(command, "")


def with_typed_arguments(message: str, words: Sequence[str], typed: Sequence[str]) -> str:
    """Return a message with arguments as the user typed them instead of in Hydra's grammar."""
    originals = {word: old for word, old in zip(words, typed, strict=True) if word != old}
    if not originals:
        return message
    alternatives = "|".join(map(re.escape, sorted(originals, key=len, reverse=True)))
    pattern = rf"(?<!\w)({alternatives})(?!\w)"
    return re.sub(pattern, lambda match: originals[match[0]], message)
