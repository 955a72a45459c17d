"""Finds the run directories that a setting names."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from korlm import config
from korlm.config.paths import CHECKPOINTS, expand_home, run_directory
from korlm.utils.errors import ConfigError

FAILED = "failed.txt"  # in the folder of a sweep's job: why it has no metrics


def resumed_checkpoint(resume: str, which: str = "last") -> Path:
    """Return the checkpoint that a run is resumed from.

    Args:
        resume: the run, or a path inside it.
        which: last, or best, which holds no state of the optimizer.
    """
    return run_directory(Path(expand_home(resume, "resume"))) / CHECKPOINTS / f"{which}.pt"


def is_finished(job: Path) -> bool:
    """Whether a job has come to its end; metrics.json is the last that it writes."""
    return (job / "metrics.json").is_file()


def holds_run(folder: Path) -> bool:
    """Return whether a training has left its results, or its checkpoints, in a folder."""
    return any(folder.glob(f"{CHECKPOINTS}/*.pt")) or is_finished(folder)


def run_folders(run: Any) -> list[Path]:
    """The run directories that a setting names, each once.

    Args:
        run: a directory, a list of them, or globs, of whose matches those count that hold a model.

    Raises:
        ConfigError: a directory that is no run, or a glob that matches none.
    """
    found: dict[Path, Path] = {}
    for place in config.run_list(run):
        place = expand_home(place, "run")
        path = run_directory(Path(place))
        if _holds(path, "checkpoints"):
            folders = [path]
        elif glob.has_magic(place):
            found_paths = sorted(glob.glob(place, recursive=True))
            matches = dict.fromkeys(run_directory(Path(match)) for match in found_paths)
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
