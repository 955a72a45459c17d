"""Manage the folder of a sweep: its jobs, their names, and how a later command resumes it.

A job is identified by its overrides, not by the name of its folder, so that a sweep with additional
values finds its finished jobs. ``multirun.yaml``, which is written first, has the overrides of the
sweep as typed.
"""

from __future__ import annotations

import functools
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from korlm.cli.arguments import key_of
from korlm.cli.output_dirs import create_folder
from korlm.config.keys import rename_override
from korlm.config.paths import quote_path
from korlm.config.stored import check_override, read_yaml
from korlm.runs.directories import is_finished
from korlm.utils.errors import ConfigError, reading
from korlm.utils.io.atomic_files import new_folder

Settings = frozenset[tuple[str, str]]

# Longest name of a job in characters; file systems allow 255 bytes, a Hangul syllable has three.
MAX_NAME = 80

# Keys and groups that do not change the result of a job.
COMMAND_KEYS = ("resume", "resume_from", "outputs", "objective", "prepare", "imports")


def job_settings(overrides: Iterable[str]) -> dict[str, str]:
    """Return key -> value of the settings that identify a job, as typed."""
    pairs = ((key_of(override), override.partition("=")[2]) for override in overrides)
    return {key: value for key, value in pairs if not is_command_key(key)}


def is_command_key(key: str) -> bool:
    """Return True if a setting affects how a command runs, but not the result of its job.

    >>> is_command_key("prepare.cluster"), is_command_key("model.hidden_dim")
    (True, False)
    """
    return key.partition(".")[0] in COMMAND_KEYS


def settings_of(overrides: Iterable[str]) -> Settings:
    """Return ``job_settings`` in hashable form, to compare jobs."""
    return frozenset(job_settings(overrides).items())


def iter_jobs(sweep: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the folder and the settings of each job of a sweep."""
    for path in sweep.glob("*/.hydra/overrides.yaml"):
        settings = read_job_settings(path.parents[1])
        if settings is not None:
            yield path.parents[1], settings


def read_job_settings(job: Path) -> dict[str, str] | None:
    """Return ``job_settings`` of the job in a folder; None if it was killed before writing them."""
    overrides = read_overrides(job)
    return None if overrides is None else job_settings(overrides)


def read_overrides(job: Path) -> list[str] | None:
    """Return the overrides of the job in a folder; None if it was killed before writing them."""
    path = job / ".hydra" / "overrides.yaml"
    advice = "move the folder of this job out of the sweep and resume the sweep: it will run again"
    with reading(path, ConfigError, advice):
        typed = read_yaml(path) if path.exists() else None
        if not (typed is None or isinstance(typed, list)):
            raise ValueError("not a list")
    return None if typed is None else [rename_override(str(one)) for one in typed]


def remove_incomplete_jobs(sweep: Path) -> None:
    """Remove folders of jobs that were killed before they wrote their settings.

    They cannot be resumed, and the names of their folders would stay in use.
    """
    named = (path for path in sweep.glob("*") if path.name.isdecimal() or "=" in path.name)
    for folder in filter(Path.is_dir, named):
        is_bare = all(path.name == ".hydra" for path in folder.iterdir())
        if is_bare and read_job_settings(folder) is None:
            shutil.rmtree(folder)


def sweep_dir(outputs: str, resume: str | None) -> str:
    """Return the folder of a sweep: a new one, or the one to resume."""
    return resume or create_folder(Path(outputs, "sweeps", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"))


def job_name(number: int, overrides: Sequence[str], swept: Collection[str]) -> str:
    """Return the name of a job's folder, which TensorBoard and tables show as well.

    >>> job_name(0, ["model=lstm", "seed=1", "trainer.epochs=3"], {"model", "seed"})
    'model=lstm_seed=1'
    >>> job_name(3, ["corpus.files=['자료/a b.txt','c']"], {"corpus.files"})
    'corpus.files=자료-a-b.txt-c'
    >>> job_name(3, ["seed=1"], ())
    '3'
    """
    varied = (override.lstrip("+~") for override in overrides if key_of(override) in swept)
    plain = (re.sub(r"""[\[\]{}"']""", "", override) for override in varied)
    name = "_".join(re.sub(r"[^\w.=+-]+", "-", override) for override in plain)
    return f"{number}_{name[:MAX_NAME]}" if len(name) > MAX_NAME else name or str(number)


def job_dir(sweep: str, number: int, overrides: Sequence[str]) -> str:
    """Return the name of a job's folder: that of the same job in an earlier command, or a new one.

    A new folder is created at once, so that other processes cannot use it for their jobs.
    """
    folder = Path(sweep)
    existing = jobs_by_settings(folder).get(settings_of(overrides))
    if existing is not None:
        return existing
    name = job_name(number, overrides, _swept.get(folder.absolute(), frozenset()))
    return Path(new_folder(folder / name)).name


_swept: dict[Path, frozenset[str]] = {}  # folder of a sweep -> keys that vary in it


def begin_sweep(sweep: Path, swept: frozenset[str]) -> None:
    """Remove incomplete jobs of a sweep, and store what ``job_dir`` needs."""
    jobs_by_settings.cache_clear()
    remove_incomplete_jobs(sweep)
    _swept[sweep.absolute()] = swept


@functools.cache
def jobs_by_settings(sweep: Path) -> dict[Settings, str]:
    """Return settings -> folder name of jobs of earlier commands; of equal jobs, a finished one."""
    jobs = sorted(iter_jobs(sweep), key=lambda job: (is_finished(job[0]), job[0].name))
    return {frozenset(settings.items()): folder.name for folder, settings in jobs}


def with_stored_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments of a command, with those of the sweep that it resumes added.

    An argument of this command replaces a stored one with the same key.
    """
    positions = [at for at, argument in enumerate(arguments) if argument.startswith("resume=")]
    if not positions:
        return arguments
    if any(argument.startswith("hydra.sweep.dir=") for argument in arguments):
        raise ConfigError(
            f"{arguments[positions[-1]]}: and hydra.sweep.dir both name the folder of the sweep; "
            "remove one"
        )
    folder = Path(arguments[positions[-1]].partition("=")[2].strip("'\""))
    keys = {key_of(argument) for argument in arguments}
    stored = [override for override in _stored(folder) if key_of(override) not in keys]
    path = folder / "multirun.yaml"
    for override in stored:
        check_override(override, str(path))
        _check_outputs(override, folder)
    for job in sorted(folder.glob("*/.hydra/overrides.yaml")):
        for override in _without_prepare(read_overrides(job.parents[1]) or []):
            if key_of(override) not in keys:
                check_override(override, str(job))
    at = positions[-1] + 1  # argparse requires all overrides in one block
    return [*arguments[:at], *stored, *arguments[at:]]


def _stored(sweep: Path) -> list[str]:
    """Return the overrides that a sweep was started with, including those of its search.

    The launcher and ``prepare.*`` must be typed again: the next command may run on another machine,
    and a file of another person must not choose which programs or servers this machine uses.
    """
    path = sweep / "multirun.yaml"
    if not path.is_file():
        raise ConfigError(
            f"resume={sweep}: no multirun.yaml in there; with -m give the folder of a sweep, such "
            "as outputs/sweeps/<date>_<time>; to resume a single run, remove -m"
        )
    with reading(path, ConfigError, "type the whole sweep again"):
        overrides = read_yaml(path)["hydra"]["overrides"]
        task = [rename_override(str(override)) for override in overrides["task"]]
        hydra = [rename_override(str(override)) for override in overrides["hydra"] or []]
    search = [o for o in hydra if re.match(r"hydra[/.]sweeper\b", key_of(o))]
    return [*_without_prepare(task), *search]


def _without_prepare(overrides: Iterable[str]) -> list[str]:
    return [one for one in overrides if key_of(one).partition(".")[0] != "prepare"]


def _check_outputs(override: str, sweep: Path) -> None:
    """Reject a stored ``outputs`` that does not contain the sweep: korlm would write to it."""
    value = override.partition("=")[2].strip("'\"")
    if key_of(override) == "outputs" and not is_inside(sweep, Path(value)):
        raise ConfigError(
            f"{sweep / 'multirun.yaml'}: outputs={value}: this sweep is not in that folder; "
            "give outputs=FOLDER to choose where prepared corpora are written"
        )


def is_inside(path: Path, folder: Path) -> bool:
    """Return True if a path is inside a folder."""
    return folder.resolve() in path.resolve().parents


def run_command(job: Path) -> str:
    """Return the command that trains the model of a job on its own, with the same ``outputs``."""
    overrides = read_overrides(job) or []
    keys = (key for key in map(key_of, overrides) if not is_command_key(key))
    included = (*keys, "outputs", "imports")
    arguments = [override for override in overrides if key_of(override) in included]
    return shlex.join(["python", "-m", "korlm.train", *arguments])


def sweep_resume_command(sweep: Path, arguments: Sequence[str] = ()) -> str:
    """Return the command that resumes a sweep; arguments about Hydra and ``imports`` are repeated.

    >>> sweep_resume_command(Path("sweeps/a"), ["-m", "seed=1,2", "hydra/launcher=parallel"])
    'python -m korlm.train -m resume=sweeps/a hydra/launcher=parallel'
    """
    repeated = [a for a in arguments if re.match(r"\+*hydra[./](?!sweep\.dir=|mode=)|imports=", a)]
    return "python -m korlm.train -m " + shlex.join([f"resume={quote_path(sweep)}", *repeated])


def register_resolvers() -> None:
    """Register the resolvers for the folders of a sweep in conf/train.yaml."""
    OmegaConf.register_new_resolver("korlm_sweep_dir", sweep_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("korlm_job_dir", job_dir, replace=True)
