"""What all commands share: Hydra around a stage, errors in one line, exit codes.

Exit codes: 0 done; 1 a user's mistake, told in one line on stderr; 130 after Ctrl-C. All that
happens before the settings are known to be valid stays light: no torch, konlpy or tensorboard.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import gc
import glob
import importlib
import logging
import os
import re
import shlex
import shutil
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korlm import config, plugins, torchrun
from korlm.errors import ConfigError, Interrupted, KorlmError, OutputError, Pruned, writing
from korlm.metrics import check_objective
from korlm.search.watching import Watcher, watching
from korlm.signals import interrupting
from korlm.sweep import SweepTable, note_failure
from korlm.sweep_folder import (
    go_on_command,
    is_finished,
    job_dir,
    new_folder,
    sweep_dir,
    with_stored,
)

logger = logging.getLogger(__name__)

VERSION_BASE = "1.3"  # of Hydra's behaviour
_TASKS: dict[str, Callable[[DictConfig], Any]] = {}  # command -> what it does with one job
HYDRA_FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p"),
    *("--run", "-r", "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}


def conf_dir() -> Path:
    """The folder of the settings: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent
    if (checkout / "pyproject.toml").exists() and (checkout / "conf").is_dir():
        return checkout / "conf"
    return package / "conf"


def quote_hangul(override: str) -> str:
    """Quotes the words of an override that hold letters outside ASCII.

    Hydra's grammar takes such letters only in quotes, and file names in Korea are Korean.

    >>> quote_hangul("corpus.files=[자료/글.txt,b.txt]")
    "corpus.files=['자료/글.txt',b.txt]"
    >>> quote_hangul("name='실험 1'")
    "name='실험 1'"
    """
    key, equals, value = override.partition("=")
    if not equals or value.isascii():
        return override
    pieces = re.split(r"""('[^']*'|"[^"]*")""", value)
    word = re.compile(r"""[^\s\[\]{}(),:='"]*[^\x00-\x7f][^\s\[\]{}(),:='"]*""")
    pieces[::2] = [word.sub(lambda match: f"'{match.group()}'", piece) for piece in pieces[::2]]
    return key + equals + "".join(pieces)


def quote_literal(text: str) -> str:
    r"""Quotes a text so that Hydra and OmegaConf give it back to the letter.

    A backslash has a meaning of its own before a quote (Hydra) and before ``${`` (OmegaConf) alone.

    >>> print(quote_literal("나는, '너'는 ${그}"))
    '나는, \'너\'는 \${그}'
    """
    text = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    return "'" + re.sub(r"\\+\Z", lambda match: match[0] * 2, text) + "'"


def quoted(argument: str, literal: Collection[str] = ()) -> str:
    """An argument of the command line in Hydra's grammar.

    Args:
        argument: as it was typed.
        literal: keys behind whose equal sign everything is text.
    """
    key, equals, value = argument.partition("=")
    if equals and key in literal:
        return f"{key}={quote_literal(value)}"
    return quote_hangul(argument)


def whole(arguments: Sequence[str], literal: Collection[str]) -> list[str]:
    """Arguments with the words of a text together again that the shell took apart.

    Args:
        arguments: as the shell gave them.
        literal: keys behind whose equal sign everything is text, up to the next setting.

    >>> whole(["prompt=나는", "학교에", "k=3"], {"prompt"})
    ['prompt=나는 학교에', 'k=3']
    """
    joined: list[str] = []
    for argument in arguments:
        goes_on = joined and joined[-1].partition("=")[0] in literal
        if goes_on and "=" not in argument and argument not in HYDRA_FLAGS:
            joined[-1] += f" {argument}"
        else:
            joined.append(argument)
    return joined


def run_dir(outputs: str, name: str | None, resume: str | None) -> str:
    """The directory of a run: a new one of its own, or the one to go on in."""
    if resume and not (Path(resume) / "checkpoints" / "last.pt").is_file():
        hint = "give the directory of a run as the command that was broken off printed it"
        if (Path(resume) / "multirun.yaml").is_file():
            hint = f"it is a sweep: {go_on_command(Path(resume))}"
        raise ConfigError(f"resume={resume}: no checkpoints/last.pt in there; {hint}")
    if not torchrun.place().is_first:
        return "."  # writes nothing; the first process tells it where the run lies
    if resume:
        return resume
    stem = (
        Path(outputs) / "runs" / (f"{datetime.now():%Y-%m-%d_%H-%M-%S}" + f"_{name}" * bool(name))
    )
    return new_folder(stem)


def run_folders(run: Any) -> list[Path]:
    """The run directories that a setting names, each once.

    Args:
        run: a directory, a list of them, or globs, of whose matches those count that hold a model.

    Raises:
        ConfigError: a directory that is no run, or a glob that matches none.
    """
    found: dict[Path, Path] = {}
    for place in config.run_list(run):
        path = Path(place)
        if _holds(path, "checkpoints"):
            folders = [path]
        elif glob.has_magic(place):
            matches = map(Path, sorted(glob.glob(place, recursive=True)))
            folders = [match for match in matches if _holds(match, "checkpoints/best.pt")]
            if not folders:
                raise ConfigError(f"run={place}: matches no directory with checkpoints/best.pt")
        else:
            raise ConfigError(
                f"run={place}: no checkpoints in there; give the directory of a run, such as "
                "outputs/runs/<date>_<time>"
            )
        found |= {folder.resolve(): folder for folder in folders}
    return list(found.values())


def _holds(folder: Path, name: str) -> bool:
    """Whether a run directory holds something, or is an export, which is whole by nature."""
    return (folder / name).exists() or (folder / "model.safetensors").is_file()


def evaluation_dir(run: Any, outputs: str) -> str:
    """The directory of an evaluation: in that of the run, or among those of several runs."""
    folders = run_folders(run)
    place = folders[0] if len(folders) == 1 else Path(outputs)
    return new_folder(place / "evaluations" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}")


def output_subdir(folder: str) -> str | None:
    """Where Hydra keeps the settings of a command: a resumed run keeps its first ones.

    Args:
        folder: the directory of the run, or of a job of a sweep.
    """
    path = Path(folder)
    if not torchrun.place().is_first or (is_sweep() and is_finished(path)):
        return None
    if (path / ".hydra" / "overrides.yaml").is_file():
        return f".hydra/resumed_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return ".hydra"


def one_line(error: BaseException, command: str = "train") -> str:
    """What a user must know of a wrong setting, without the layers that Hydra wraps around it.

    Args:
        error: what Hydra or OmegaConf has raised.
        command: whose settings were given.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    for link in chain:
        if isinstance(link, KorlmError):
            return str(link)
    texts = [str(link) for link in chain if isinstance(link, OmegaConfBaseException)]
    if not texts:
        text = re.sub(
            r"\s*(Config search path:|See https://hydra\.cc).*", "", str(error), flags=re.S
        )
        text = " ".join(re.sub(r"\b\w+_schema\b", "", text).split())
        for link in chain:
            if isinstance(link, OverrideParseException):
                hint = "blanks, commas and signs need quotes within quotes: \"name='a b'\""
                text = f"{link.override}: {text}; {hint}"
                break
        return text
    text = texts[-1]  # the innermost
    message = text.splitlines()[0]
    key = "".join(re.findall(r"full_key: (\S+)", text)[:1])
    unknown = re.match(r"Key '([^']+)' (?:is )?not in", message)
    if unknown:
        wrong = key or unknown.group(1)
        if wrong in all_keys(command):
            group = wrong.split(".")[0]
            return f"{wrong}: belongs to another choice of {group} than the one that was made"
        near = difflib.get_close_matches(wrong, all_keys(command), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the keys"
        return f"{wrong}: there is no such setting; {hint}"
    # OmegaConf leaves the names of its own template in some messages.
    message = message.replace("Value '$VALUE' of type '$VALUE_TYPE' could", "the value could")
    message = message.replace("Value '$VALUE' is not a", "the value is not a")
    message = message.replace("Invalid value '$VALUE'", "invalid value")
    message = message.replace(" (type $VALUE_TYPE)", "")
    message = re.sub(r"field '[\w.]+' is not Optional", "must not be null", message)
    where = key or str(error).splitlines()[0].removeprefix("Error merging override ")
    return f"{where}: {message}" if where != message else message


def all_keys(command: str) -> list[str]:
    """Every setting that a command knows with some choice of its groups, as key or group.key."""
    keys: list[str] = []
    for field in dataclasses.fields(config.SCHEMAS[""][f"{command}_schema"]):
        default = field.default_factory
        choices = list(config.SCHEMAS.get(field.name, {}).values())
        schemas = [default] if isinstance(default, type) else choices
        keys.append(field.name)
        for schema in filter(dataclasses.is_dataclass, schemas):
            keys += [f"{field.name}.{f.name}" for f in dataclasses.fields(schema)]
    return sorted(set(keys))


def check_groups(command: str, arguments: list[str]) -> None:
    """Refuses keys of a group that may be left out and was: Hydra would break down over them.

    Args:
        command: whose settings were given.
        arguments: as they were typed.

    Raises:
        ConfigError: naming the key, and how to choose the group.
    """
    fields = dataclasses.fields(config.SCHEMAS[""][f"{command}_schema"])
    optional = {f.name for f in fields if f.default is None} & set(config.SCHEMAS)
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        group = key.split(".")[0]
        chosen = any(other.startswith(f"{group}=") for other in arguments)
        if group in optional and (value.startswith("{") or not chosen):
            names = "|".join(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))
            raise ConfigError(f"{argument}: choose the group as well: {group}={names}")


def to_settings(tree: DictConfig) -> Any:
    """Turns Hydra's tree into the dataclasses of ``korlm.config``, all checks done."""
    missing = sorted(OmegaConf.missing_keys(tree))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=VALUE")
    settings = OmegaConf.to_object(tree)
    _refuse_added_keys(settings)
    return settings


def _refuse_added_keys(settings: Any, prefix: str = "") -> None:
    """``+group.key=value`` slips past the schemas: Hydra adds whatever it is told to."""
    fields = {field.name for field in dataclasses.fields(settings)}
    for key, value in vars(settings).items():
        if key not in fields:
            raise ConfigError(f"{prefix}{key}: there is no such setting; --help lists the keys")
        if dataclasses.is_dataclass(value):
            _refuse_added_keys(value, f"{prefix}{key}.")


def settings_from_plain(plain: dict[str, Any], overrides: list[str]) -> config.TrainSettings:
    """The settings that a checkpoint carries, with the overrides of a command on top.

    Args:
        plain: what ``plain_settings`` gave.
        overrides: ``key=value`` each.
    """
    try:
        tree = OmegaConf.structured(config.TrainSettings)
        for group, schemas in config.SCHEMAS.items():
            keys = set(plain.get(group, ()))
            fitting = [
                (len(fields), name)
                for name, schema in schemas.items()
                if keys <= (fields := {f.name for f in dataclasses.fields(schema)})
            ]
            if group and fitting:
                tree[group] = OmegaConf.structured(schemas[min(fitting)[1]])
        tree = OmegaConf.merge(tree, plain, OmegaConf.from_dotlist(overrides))
        return typing.cast(config.TrainSettings, to_settings(typing.cast(DictConfig, tree)))
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from error


def plain_settings(settings: config.TrainSettings) -> dict[str, Any]:
    """Settings as plain dicts, lists, strings and numbers, as checkpoints hold them."""
    tree = OmegaConf.to_container(OmegaConf.structured(settings), resolve=True, enum_to_str=True)
    return typing.cast(dict[str, Any], tree)


def command_overrides() -> list[str]:
    """The overrides typed for this job."""
    return list(HydraConfig.get().overrides.task)


def is_sweep() -> bool:
    """Whether this job is one of several (-m)."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def watching_trial(objective: str) -> contextlib.AbstractContextManager[Watcher | None]:
    """What watches over this job, if it is a trial of a search.

    Args:
        objective: SPLIT.KEY that is minimised.
    """
    if not is_sweep():
        return contextlib.nullcontext()
    return watching(output_dir().parent, command_overrides(), objective)


def output_dir() -> Path:
    """The folder that Hydra made for this job, for the first process alone."""
    return Path(HydraConfig.get().runtime.output_dir)


def _stop(message: str, code: int) -> NoReturn:
    with contextlib.suppress(OSError):  # a pipe or a terminal that is closed
        sys.stdout.flush()
    line, place = f"korlm: {message}\n", torchrun.place()
    if place.is_alone:
        with contextlib.suppress(OSError):
            sys.stderr.write(line)
    else:
        from korlm.training.distributed import say_farewell

        say_farewell(place, line)
    raise SystemExit(code)


def _remove_fruitless(folder: Path) -> None:
    """Removes a run directory in which nothing came to be, and its parents while they are empty."""
    if HydraConfig.get().output_subdir is None:  # the folder is not of this command's making
        return
    if (folder / "checkpoints").exists() or not (folder / ".hydra").exists():
        return
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler):
            logging.getLogger().removeHandler(handler)
            with contextlib.suppress(OSError):  # a full disk may be why nothing came to be
                handler.close()
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        for parent in list(folder.parents)[:2]:
            parent.rmdir()


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Keeps the logging and other threads from telling tracebacks of pipes and disks on stderr.

    A line of the log that nobody reads, or that a full disk has no room for, must not end a run;
    a thread that cannot write its file fails whoever waits for it, and that is told in one line.
    """
    before, raising = threading.excepthook, logging.raiseExceptions

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not issubclass(failed.exc_type, OSError):
            before(failed)

    threading.excepthook, logging.raiseExceptions = hook, False
    try:
        yield
    finally:
        threading.excepthook, logging.raiseExceptions = before, raising


@contextlib.contextmanager
def _ending(single: bool) -> Iterator[None]:
    """Turns what ends a job into one line and an exit code; in a sweep it stays an exception."""
    try:
        with writing(output_dir()):
            yield
    except (Exception, KeyboardInterrupt) as error:
        if not single:
            _end_job(error)
        if isinstance(error, Interrupted):
            _stop(str(error), 130)
        if torchrun.place().is_first:
            _remove_fruitless(output_dir())
        if isinstance(error, KeyboardInterrupt):
            _stop("interrupted", 130)
        if not isinstance(error, KorlmError):
            raise
        _stop(str(error), 1)
    finally:
        if not single:
            gc.collect()  # a run and its parts know each other; the next job needs their memory


def _end_job(error: BaseException) -> NoReturn:
    """Ends a job of a sweep by its exception: Hydra goes on with the next one."""
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        raise KeyboardInterrupt from None  # the whole sweep ends
    assert isinstance(error, Exception)
    if torchrun.place().is_first:
        note_failure(output_dir(), error)
    if isinstance(error, Pruned):
        logger.info("job %s of the sweep: %s", output_dir().name, error)
        raise error
    unexpected = not isinstance(error, KorlmError)
    logger.error("job %s of the sweep failed: %s", output_dir().name, error, exc_info=unexpected)
    link: BaseException | None = error
    while link is not None:  # Hydra keeps the exception to the end, and it would keep the model
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    raise error


def register_resolvers() -> None:
    """Tells OmegaConf where the commands write, as the files under conf/ call it."""
    for name, resolver in (
        ("korlm_run_dir", run_dir),
        ("korlm_evaluation_dir", evaluation_dir),
        ("korlm_sweep_dir", sweep_dir),
    ):
        OmegaConf.register_new_resolver(name, resolver, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("korlm_job_dir", job_dir, replace=True)
    OmegaConf.register_new_resolver("korlm_output_subdir", output_subdir, replace=True)


def task_of(command: str) -> Callable[[DictConfig], Any]:
    """What a command does with one job, for a process that was not started by that command.

    Args:
        command: its module in korlm.
    """
    # As a rule the command's own module is __main__ instead, and that of another process.
    importlib.import_module(f"korlm.{command}")
    hydra.version.setbase(VERSION_BASE)
    logging.raiseExceptions = False  # as below
    config.register()
    register_resolvers()
    return _TASKS[command]


@contextlib.contextmanager
def alone_in(job: Path) -> Iterator[None]:
    """Around a job of a sweep, which other processes may have found in its folder as well.

    Raises:
        OutputError: another one works on it.
    """
    if not torchrun.place().is_first or is_finished(job):
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(job / ".lock")
    try:
        with writing(job):
            lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"{job}: another process works on this job: wait for it, or end it first"
        ) from None
    try:
        yield
    finally:
        lock.release()
        (job / ".lock").unlink(missing_ok=True)


def complete_sweep() -> None:
    """Adds what a sweep to go on with was begun with to the arguments of this command.

    Raises:
        ConfigError: there is no such sweep, or its objective is none.
    """
    sys.argv[1:] = with_stored(sys.argv[1:])
    for argument in sys.argv[1:]:
        key, _, value = argument.partition("=")
        if key == "objective":  # one line before any job, not one for each
            check_objective(value)


def stage(
    config_name: str, literal: Collection[str] = (), renamed: Mapping[str, str] | None = None
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Makes a command of a function that takes settings: Hydra around it, errors in one line.

    Args:
        config_name: the command's file under conf/.
        literal: keys whose values are text, and taken to the letter.
        renamed: key as typed -> key of the settings, where another command has a group of that
            name under conf/: Hydra would take the value for a choice of it.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        def task(tree: DictConfig) -> Any:
            if not torchrun.place().is_first:  # one log, and no file of its own
                logging.getLogger().setLevel(logging.WARNING)
                logging.getLogger().handlers[:] = [logging.StreamHandler()]
            if not is_sweep():
                with _ending(single=True):
                    return function(to_settings(tree))
            with alone_in(output_dir()), _ending(single=False):
                if torchrun.place().is_first:
                    (output_dir() / "failed.txt").unlink(missing_ok=True)
                return function(to_settings(tree))

        _TASKS[config_name] = task

        def command() -> None:
            show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
            os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us; we print them, not Hydra
            # PyTorch's OpenMP threads spin while they wait, which costs a busy machine dearly.
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            config.register()
            plugins.register()
            register_resolvers()
            words = whole(sys.argv[1:], literal)
            for key, own in (renamed or {}).items():
                words = [re.sub(f"^{key}=", f"{own}=", word) for word in words]
            sys.argv[1:] = [quoted(word, literal) for word in words]
            for argument in sys.argv[1:]:
                flag = argument.split("=")[0]
                if flag.startswith("-") and flag not in HYDRA_FLAGS:
                    _stop(f"{flag}: settings are written key=value, such as trainer.epochs=3", 1)
            sweep = {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(sys.argv[1:])
            if config_name != "train" and not torchrun.place().is_alone:
                _stop(f"korlm.{config_name} runs in one process: start it without torchrun", 1)
            searches = [word for word in sys.argv[1:] if re.match(r"sweep=(?!null$)", word)]
            asks = HYDRA_FLAGS & {word.split("=")[0] for word in sys.argv[1:]}
            if config_name == "train" and searches and not sweep and not asks:
                _stop(
                    f"{searches[0]}: a search runs many jobs: python -m korlm.train -m "
                    + shlex.join(sys.argv[1:]),
                    1,
                )
            if sweep and not torchrun.place().is_alone:
                _stop(
                    f"{sweep.pop()}: a sweep starts its jobs itself, but torchrun has started "
                    "processes for one: leave it out, or start the sweep without torchrun; with "
                    "hydra/launcher=submitit_local hydra.launcher.tasks_per_node=2 each of its "
                    "jobs has two processes",
                    1,
                )
            launcher = [word for word in sys.argv[1:] if word.startswith("hydra/launcher=")]
            if launcher and not sweep and not set(sys.argv[1:]) & {"--cfg", "-c", "--help", "-h"}:
                _stop(f"{launcher[0]}: starts the jobs of a sweep: add -m", 1)
            main = hydra.main(
                version_base=VERSION_BASE, config_path=str(conf_dir()), config_name=config_name
            )
            typed, folder = sys.argv[1:], None
            try:
                with _one_voice(), interrupting(), writing(Path("outputs")):
                    try:
                        if sweep and config_name == "train":
                            complete_sweep()
                        check_groups(config_name, sys.argv[1:])
                        main(task)()
                    finally:
                        folder = SweepTable.tell()
            except (KorlmError, HydraException, OmegaConfBaseException) as error:
                if show_traceback:
                    raise
                _stop(one_line(error, config_name), 1)
            except KeyboardInterrupt:
                hint = f"; go on with: {go_on_command(folder, typed)}" if folder else ""
                _stop(f"interrupted{hint}", 130)

        return command

    return decorate
