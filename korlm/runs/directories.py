"""Find run directories that a setting names, and tell their state."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from korlm import config
from korlm.config.paths import CHECKPOINTS, run_directory
from korlm.utils.errors import ConfigError

FAILED = "failed.txt"  # file in the folder of a sweep's job that has the error that ended it


def resumed_checkpoint(resume: str, which: str = "last") -> Path:
    """Return the checkpoint, last or best, of a run directory or a path inside it."""
    return run_directory(Path(resume)) / CHECKPOINTS / f"{which}.pt"


def problem_of(folder: Path, name: str) -> str:
    """Return what is wrong with a folder that lacks a file or folder, for messages."""
    return f"has no {name}" if folder.is_dir() else "no such directory"


def is_finished(job: Path) -> bool:
    """Return True if a run is finished; metrics.json is the last file that it writes."""
    return (job / "metrics.json").is_file()


def holds_run(folder: Path) -> bool:
    """Return True if a folder has checkpoints or results of a run."""
    return any(folder.glob(f"{CHECKPOINTS}/*.pt")) or is_finished(folder)


def run_folders(run: Any) -> list[Path]:
    """Return the run directories that a setting names, without duplicates.

    Args:
        run: a directory, a glob, or a list of them. Matches of a glob without a model are ignored.
    """
    runs: dict[Path, Path] = {}  # resolved path -> path as given
    for name in config.run_list(run):
        path = run_directory(Path(name))
        if _has_or_is_export(path, "checkpoints"):
            folders = [path]
        elif glob.has_magic(name):
            paths = sorted(glob.glob(name, recursive=True))
            matches = dict.fromkeys(run_directory(Path(match)) for match in paths)
            folders = [m for m in matches if _has_or_is_export(m, "checkpoints/best.pt")]
            if not folders:
                raise ConfigError(f"run={name}: matches no directory with checkpoints/best.pt")
        else:
            raise ConfigError(
                f"run={name}: {problem_of(path, CHECKPOINTS)}; give a run directory, such as "
                "outputs/runs/<date>_<time>"
            )
        runs |= {folder.resolve(): folder for folder in folders}
    return list(runs.values())


def _has_or_is_export(folder: Path, name: str) -> bool:
    """Return True if a folder has a file or folder of this name, or is an export."""
    return (folder / name).exists() or (folder / "model.safetensors").is_file()
