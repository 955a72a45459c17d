"""The output directory of a command."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korlm.config.paths import expand_home, run_directory
from korlm.runs.directories import holds_run, is_finished, resumed_checkpoint, run_folders
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError, output_errors
from korlm.utils.io.atomic_files import new_folder

SWEEP_COMMAND = ("python", "-m", "korlm.train", "-m")


def is_sweep() -> bool:
    """Whether this job is one of several (-m)."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def output_dir() -> Path:
    """The folder that Hydra made for this job, for the first process alone."""
    return Path(HydraConfig.get().runtime.output_dir)


def run_dir(outputs: str, name: str | None, resume: str | None) -> str:
    """The directory of a run: a new one of its own, or the one to go on in."""
    if resume and not resumed_checkpoint(resume).is_file():
        hint = "give the directory of a run as the command that was broken off printed it"
        if (Path(resume) / "multirun.yaml").is_file():
            hint = f"it is a sweep: {shlex.join([*SWEEP_COMMAND, f'resume={resume}'])}"
        raise ConfigError(f"resume={resume}: no checkpoints/last.pt in there; {hint}")
    if not dist_env.place().is_main_process:
        return "."  # writes nothing; the first process tells it where the run lies
    if resume:
        return str(resumed_checkpoint(resume).parent.parent)
    outputs = expand_home(outputs, "outputs")
    stem = (
        Path(outputs) / "runs" / (f"{datetime.now():%Y-%m-%d_%H-%M-%S}" + f"_{name}" * bool(name))
    )
    return new_folder(stem)


class Refused(BaseException):
    """A run directory that must not be used; Hydra ignores any other exception of a callback."""


class RunFolder(Callback):
    """Checks the folder of a job before Hydra writes its first file there.

    Attributes:
        was_there: whether the folder holds files of others, which must not be removed.
    """

    was_there: ClassVar[bool] = False

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Refuse a folder that holds a run, unless it is the one to go on with."""
        RunFolder.was_there = False
        try:
            folder = Path(str(config.hydra.run.dir))
        except OmegaConfBaseException:  # Hydra meets the same error next, and it is printed
            return
        resume = config.get("resume")
        same = resume and folder.resolve() == run_directory(Path(resume)).resolve()
        if not same and dist_env.place().is_main_process and holds_run(folder):
            raise Refused(
                f"hydra.run.dir={folder}: holds a run already: resume={folder} goes on with it, "
                "or give another folder"
            )
        RunFolder.was_there = folder.is_dir() and any(folder.iterdir())


def evaluation_dir(run: Any, outputs: str, output: str | None = None) -> str:
    """The directory of an evaluation: in that of the run, or among those of several runs.

    Args:
        run: as the setting names it, one or several.
        outputs: the folder for evaluations of several runs.
        output: the folder itself, if it was named.

    Raises:
        ConfigError: a run is none, or the folder that was named is not new.
        OutputError: the folder cannot be made.
    """
    folders = run_folders(run)
    if output is not None:
        named = Path(expand_home(output, "output"))
        with output_errors(named, "output=FOLDER"):
            named.mkdir(parents=True, exist_ok=True)
            if any(named.iterdir()):
                raise ConfigError(f"output={output}: is not empty; give the name of a new folder")
        return str(named)
    is_one = len(folders) == 1
    place = folders[0] if is_one else Path(expand_home(outputs, "outputs"))
    stem = place / "evaluations" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return new_folder(stem, "output=FOLDER" if is_one else "outputs=FOLDER")


def output_subdir(folder: str) -> str | None:
    """Where Hydra keeps the settings of a command: a resumed run keeps its first ones.

    Args:
        folder: the directory of the run, or of a job of a sweep.
    """
    path = Path(folder)
    if not dist_env.place().is_main_process or (is_sweep() and is_finished(path)):
        return None
    if (path / ".hydra" / "overrides.yaml").is_file():
        return f".hydra/resumed_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return ".hydra"


def register_resolvers() -> None:
    """Tells OmegaConf where the commands write, as the files under conf/ call it."""
    for name, resolver in (
        ("korlm_run_dir", run_dir),
        ("korlm_evaluation_dir", evaluation_dir),
    ):
        OmegaConf.register_new_resolver(name, resolver, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("korlm_output_subdir", output_subdir, replace=True)
