"""Folders that commands read and write, as the files under conf/ name them."""

from __future__ import annotations

import glob
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from korlm import config, torchrun
from korlm.errors import ConfigError
from korlm.sweep_folder import go_on_command, is_finished, job_dir, new_folder, sweep_dir


def is_sweep() -> bool:
    """Whether this job is one of several (-m)."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def output_dir() -> Path:
    """The folder that Hydra made for this job, for the first process alone."""
    return Path(HydraConfig.get().runtime.output_dir)


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
