"""The folder of a sweep (-m): which jobs it holds, and how a later command goes on with it.

A job is known by its overrides, never by the name of its folder: a sweep to which a value was added
finds what it has finished. ``multirun.yaml``, which Hydra writes first, holds what was typed.
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
from korlm.config.paths import expand_home
from korlm.config.renamed import rename_override
from korlm.config.stored import check_override, read_yaml
from korlm.runs.directories import is_finished
from korlm.utils.errors import ConfigError
from korlm.utils.io.atomic_files import new_folder

Settings = frozenset[tuple[str, str]]


MAX_NAME = (
    80  # characters of a job's name; file systems allow 255 bytes, a Hangul syllable is three
)


# What may differ between two commands that mean the same job.
COMMAND_KEYS = ("resume", "resume_from", "outputs", "objective", "prepare")


def job_settings(overrides: Iterable[str]) -> dict[str, str]:
    """Key -> value as typed, of all that makes a job what it is."""
    pairs = ((key_of(override), override.partition("=")[2]) for override in overrides)
    return {key: value for key, value in pairs if not is_of_the_command(key)}


def is_of_the_command(key: str) -> bool:
    """Return whether a setting says how a command runs rather than what its job is.

    >>> is_of_the_command("prepare.cluster"), is_of_the_command("model.hidden_dim")
    (True, False)
    """
    return key.partition(".")[0] in COMMAND_KEYS


def settings_of(overrides: Iterable[str]) -> Settings:
    """The same, to compare jobs by."""
    return frozenset(job_settings(overrides).items())


def found_jobs(sweep: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folders of a sweep's jobs with their settings."""
    for path in sweep.glob("*/.hydra/overrides.yaml"):
        settings = settings_in(path.parents[1])
        if settings is not None:
            yield path.parents[1], settings


def settings_in(job: Path) -> dict[str, str] | None:
    """The settings of the job whose folder this is, if it has written them down."""
    overrides = overrides_in(job)
    return None if overrides is None else job_settings(overrides)


def overrides_in(job: Path) -> list[str] | None:
    """What was typed for a job, if it was not killed before it wrote that down.

    Raises:
        ConfigError: the file is damaged.
    """
    path = job / ".hydra" / "overrides.yaml"
    try:
        typed = read_yaml(path) if path.exists() else None
        if not (typed is None or isinstance(typed, list)):
            raise ValueError("not a list")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: damaged ({error}); move the folder of this job out of the sweep, and go on "
            "with the sweep: the job is done again"
        ) from error
    return None if typed is None else [rename_override(str(one)) for one in typed]


def remove_incomplete_jobs(sweep: Path) -> None:
    """Removes folders of jobs that were killed before their settings were written down.

    Nobody could go on with them, and the jobs would get other names than their own.
    """
    named = (path for path in sweep.glob("*") if path.name.isdecimal() or "=" in path.name)
    for folder in filter(Path.is_dir, named):
        is_bare = all(path.name == ".hydra" for path in folder.iterdir())
        if is_bare and settings_in(folder) is None:
            shutil.rmtree(folder)


def sweep_dir(outputs: str, resume: str | None) -> str:
    """The folder of a sweep: one of its own, or the one to go on with."""
    return resume or new_folder(Path(outputs, "sweeps", f"{datetime.now():%Y-%m-%d_%H-%M-%S}"))


def job_name(number: int, overrides: Sequence[str], swept: Collection[str]) -> str:
    """Return the name of a job's folder, which TensorBoard and tables show as well.

    Args:
        number: of the job, its name where nothing varies and part of it where the rest is too long.
        overrides: of the job.
        swept: the keys that vary.

    >>> job_name(0, ["model=lstm", "seed=1", "trainer.epochs=3"], {"model", "seed"})
    'model=lstm_seed=1'
    >>> job_name(3, ["corpus.files=['자료/a b.txt','c']"], {"corpus.files"})
    'corpus.files=자료-a-b.txt-c'
    >>> job_name(3, ["seed=1"], ())
    '3'
    """
    own = (override.lstrip("+~") for override in overrides if key_of(override) in swept)
    plain = (re.sub(r"""[\[\]{}"']""", "", override) for override in own)
    name = "_".join(re.sub(r"[^\w.=+-]+", "-", override) for override in plain)
    return f"{number}_{name[:MAX_NAME]}" if len(name) > MAX_NAME else name or str(number)


def job_dir(sweep: str, number: int, overrides: Sequence[str]) -> str:
    """Return the name of a job's folder: that of the same job in an earlier command, or a new one.

    A new folder is made here and now: jobs that other processes start must not share it.
    """
    place = Path(sweep)
    known = jobs_by_settings(place).get(settings_of(overrides))
    if known is not None:
        return known
    name = job_name(number, overrides, _swept.get(place.absolute(), frozenset()))
    return Path(new_folder(place / name)).name


_swept: dict[Path, frozenset[str]] = {}  # sweep of this process -> the keys that vary in it


def begin_sweep(sweep: Path, swept: frozenset[str]) -> None:
    """Prepare this process for giving the jobs of a sweep their folders.

    Args:
        sweep: its folder.
        swept: the keys that vary.
    """
    jobs_by_settings.cache_clear()
    remove_incomplete_jobs(sweep)
    _swept[sweep.absolute()] = swept


@functools.cache
def jobs_by_settings(sweep: Path) -> dict[Settings, str]:
    """Names of the jobs that earlier commands have left, finished ones first."""
    jobs = sorted(found_jobs(sweep), key=lambda job: (is_finished(job[0]), job[0].name))
    return {frozenset(settings.items()): folder.name for folder, settings in jobs}


def with_stored(arguments: list[str]) -> list[str]:
    """The arguments of a command that goes on with a sweep, completed by what began it.

    What is typed anew replaces what was typed for the same key.

    Args:
        arguments: of a command with -m.

    Raises:
        ConfigError: resume=FOLDER is no sweep.
    """
    places = [at for at, argument in enumerate(arguments) if argument.startswith("resume=")]
    if not places:
        return arguments
    if any(argument.startswith("hydra.sweep.dir=") for argument in arguments):
        raise ConfigError(
            f"{arguments[places[-1]]}: names the folder of the sweep, and so does hydra.sweep.dir: "
            "leave one out"
        )
    folder = Path(arguments[places[-1]].partition("=")[2].strip("'\""))
    keys = {key_of(argument) for argument in arguments}
    stored = [override for override in _stored(folder) if key_of(override) not in keys]
    path = folder / "multirun.yaml"
    for override in stored:
        check_override(override, str(path))
        _check_outputs(override, folder)
    for job in sorted(folder.glob("*/.hydra/overrides.yaml")):
        for override in overrides_in(job.parents[1]) or []:
            if key_of(override) not in keys:
                check_override(override, str(job))
    at = places[-1] + 1  # settings stand together: argparse wants it so
    return [*arguments[:at], *stored, *arguments[at:]]


def _stored(sweep: Path) -> list[str]:
    """The settings that a sweep was begun with, those of its search too.

    A launcher and the workers of ``prepare.*`` must be typed again: the next command may run
    elsewhere, and somebody else's file must not choose what this machine starts or talks to.
    """
    path = sweep / "multirun.yaml"
    if not path.is_file():
        raise ConfigError(
            f"resume={sweep}: no multirun.yaml in there; with -m give the folder of a sweep, such "
            "as outputs/sweeps/<date>_<time>; to go on with one run, leave out -m"
        )
    try:
        overrides = read_yaml(path)["hydra"]["overrides"]
        task = [rename_override(str(override)) for override in overrides["task"]]
        hydra = [rename_override(str(override)) for override in overrides["hydra"] or []]
    except (LookupError, TypeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: damaged ({reason}); type the whole sweep again") from error
    searching = [o for o in hydra if re.match(r"hydra[/.]sweeper\b", key_of(o))]
    return [*(o for o in task if key_of(o).partition(".")[0] != "prepare"), *searching]


def _check_outputs(override: str, sweep: Path) -> None:
    """Refuse a stored ``outputs`` in which the sweep does not lie: korlm would write there."""
    value = override.partition("=")[2].strip("'\"")
    if key_of(override) == "outputs" and not lies_in(sweep, Path(value)):
        raise ConfigError(
            f"{sweep / 'multirun.yaml'}: outputs={value}: this sweep does not lie in that folder; "
            "type outputs=FOLDER to say where prepared corpora go"
        )


def lies_in(path: Path, folder: Path) -> bool:
    """Return whether a file or folder lies somewhere below a folder."""
    return folder.resolve() in path.resolve().parents


def run_command(job: Path) -> str:
    """Return what to type to train a job's model by itself, with its files where the sweep's are.

    Args:
        job: its folder.
    """
    overrides = overrides_in(job) or []
    keys = (key for key in map(key_of, overrides) if not is_of_the_command(key))
    kept = (*keys, "outputs")
    own = [override for override in overrides if key_of(override) in kept]
    return shlex.join(["python", "-m", "korlm.train", *own])


def sweep_resume_command(sweep: Path, arguments: Sequence[str] = ()) -> str:
    """What to type to go on with a sweep.

    Args:
        sweep: its folder.
        arguments: of the command that began it; launcher and sweeper are named anew.

    >>> sweep_resume_command(Path("outputs/sweeps/a"), ["-m", "seed=1,2", "hydra/launcher=joblib"])
    'python -m korlm.train -m resume=outputs/sweeps/a hydra/launcher=joblib'
    """
    value = str(sweep)
    quoted = value if re.fullmatch(r"[\w./:\\-]+", value) else f"'{value}'"
    own = [a for a in arguments if re.match(r"\+*hydra[./](?!sweep\.dir=|mode=)", a)]
    return "python -m korlm.train -m " + shlex.join([f"resume={quoted}", *own])


def _sweep_dir(outputs: str, resume: str | None) -> str:
    home = resume and expand_home(resume, "resume")
    return sweep_dir(expand_home(outputs, "outputs"), home)


def register_resolvers() -> None:
    """Register the resolvers that conf/train.yaml names the folders of a sweep with."""
    OmegaConf.register_new_resolver("korlm_sweep_dir", _sweep_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("korlm_job_dir", job_dir, replace=True)
