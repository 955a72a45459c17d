"""Choose and check the output directory of a command."""

from __future__ import annotations

import contextlib
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korlm.config import ResumeFrom
from korlm.config.metrics import default_objective
from korlm.config.paths import run_directory
from korlm.runs.directories import (
    holds_run,
    is_finished,
    problem_of,
    resumed_checkpoint,
    run_folders,
)
from korlm.utils import dist_env
from korlm.utils.errors import ConfigError, output_errors
from korlm.utils.io.atomic_files import new_folder

SWEEP_COMMAND = ("python", "-m", "korlm.train", "-m")

OUTPUT_KINDS = ("runs", "sweeps", "evaluations")  # folders of output directories

_created: list[Path] = []  # folders that the resolvers have created


def is_sweep(tree: DictConfig | None = None) -> bool:
    """Return True if a job, by default this one, belongs to a sweep and so has a number."""
    job = HydraConfig.get().job if tree is None else tree.hydra.job
    return not OmegaConf.is_missing(job, "num")


def output_dir() -> Path:
    """Return the folder of this job; in the main process, Hydra has created it."""
    return Path(HydraConfig.get().runtime.output_dir)


def run_dir(
    outputs: str,
    name: str | None,
    resume: str | None,
    resume_from: ResumeFrom = ResumeFrom.last,
) -> str:
    """Return the directory of a new run, or of ``resume``, which must have the checkpoint."""
    if resume and not resumed_checkpoint(resume, resume_from.value).is_file():
        hint = "give the run directory that the interrupted command printed"
        if (Path(resume) / "multirun.yaml").is_file():
            hint = f"it is a sweep: {shlex.join([*SWEEP_COMMAND, f'resume={resume}'])}"
        problem = problem_of(Path(resume), f"checkpoints/{resume_from.value}.pt")
        raise ConfigError(f"resume={resume}: {problem}; {hint}")
    if not dist_env.current_rank().is_main_process:
        return "."  # this process writes nothing; the main process publishes the run directory
    if resume:
        return str(resumed_checkpoint(resume).parent.parent)
    stem = (
        Path(outputs) / "runs" / (f"{datetime.now():%Y-%m-%d_%H-%M-%S}" + f"_{name}" * bool(name))
    )
    return create_folder(stem)


class Refused(BaseException):
    """A run directory is in use.

    A ``BaseException``, since Hydra ignores an ``Exception`` of a callback.
    """


class RunFolder(Callback):
    """Hydra callback that checks the folder of a job before its first file is written.

    Attributes:
        had_files: whether the folder had files before the job, so that it must not be removed.
    """

    had_files: ClassVar[bool] = False

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Refuse a folder that has a run, unless this command resumes it or is a job of a sweep."""
        RunFolder.had_files = False
        try:
            folder = Path(str(config.hydra.run.dir))
        except OmegaConfBaseException:  # Hydra raises and prints the same error next
            return
        resume = config.get("resume")
        may_exist = is_sweep(config) or (
            resume and folder.resolve() == run_directory(Path(resume)).resolve()
        )
        if not may_exist and dist_env.current_rank().is_main_process and holds_run(folder):
            raise Refused(
                f"hydra.run.dir={folder}: already holds a run: resume={folder} resumes it, or give "
                "another folder"
            )
        RunFolder.had_files = folder.is_dir() and any(folder.iterdir())


def evaluation_dir(run: Any, outputs: str, output: str | None = None) -> str:
    """Return the directory of an evaluation: below the run, or below outputs for several runs."""
    folders = run_folders(run)
    if output is not None:
        named = Path(output)
        with output_errors(named, "output=FOLDER"):
            named.mkdir(parents=True, exist_ok=True)
            if any(named.iterdir()):
                raise ConfigError(f"output={output}: is not empty; give the name of a new folder")
        return str(named)
    is_one = len(folders) == 1
    parent = folders[0] if is_one else Path(outputs)
    stem = parent / "evaluations" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return create_folder(stem, "output=FOLDER" if is_one else "outputs=FOLDER")


def create_folder(stem: Path, key: str = "outputs=FOLDER") -> str:
    """Create a new folder, which ``remove_unused`` removes if it stays empty; return its path."""
    folder = new_folder(stem, key)
    _created.append(Path(folder))
    return folder


def remove_unused() -> None:
    """Remove folders that the resolvers created, and their parents, if they are empty.

    OmegaConf calls a resolver even if another value replaces its result, such as hydra.run.dir.
    """
    for folder in _created:
        with contextlib.suppress(OSError):
            folder.rmdir()
            remove_empty_parents(folder)
    _created.clear()


def remove_empty_parents(folder: Path) -> None:
    """Remove the parents of a removed output directory that korlm creates, if they are empty.

    These are ``outputs/runs`` and ``outputs``. Parents with other names belong to the user, as does
    the working directory.
    """
    parent = folder.parent
    if parent.name in OUTPUT_KINDS:
        with contextlib.suppress(OSError):
            for path in (parent, parent.parent):
                if not Path.cwd().is_relative_to(path.resolve()):
                    path.rmdir()


def output_subdir(folder: str) -> str | None:
    """Return the subfolder for Hydra's files; a resumed run gets a new one. None: no files."""
    path = Path(folder)
    if not dist_env.current_rank().is_main_process or (is_sweep() and is_finished(path)):
        return None
    if (path / ".hydra" / "overrides.yaml").is_file():
        return f".hydra/resumed_{datetime.now():%Y-%m-%d_%H-%M-%S}"
    return ".hydra"


def register_resolvers() -> None:
    """Register the resolvers that conf/*.yaml use for output directories."""
    register = OmegaConf.register_new_resolver
    register("korlm_run_dir", run_dir, use_cache=True, replace=True)
    register("korlm_evaluation_dir", evaluation_dir, use_cache=True, replace=True)
    register("korlm_objective", default_objective, replace=True)
    register("korlm_output_subdir", output_subdir, replace=True)
