"""Settings of the page that tells of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.config.validation import Group, path_field, paths_field
from korlm.utils.errors import ConfigError


@dataclass
class ReportSettings(Group):
    """python -m korlm.report: runs or a sweep -> one HTML page."""

    runs: Any = paths_field(default=None)
    # the directory of a run, a list of them, or globs
    sweep_dir: str | None = path_field(None)
    # the directory of a sweep, in place of runs; typed sweep=DIR
    output: str = path_field("report.html")
    # the page; one that is there is replaced
    title: str = ""
    # of the page; empty: what it is made of

    def __post_init__(self) -> None:
        runs = self.runs if isinstance(self.runs, list) else [self.runs] if self.runs else []
        self.runs = [str(run) for run in runs]
        if bool(self.runs) == bool(self.sweep_dir):
            raise ConfigError(
                "give either 'runs=[DIR,...]' or sweep=DIR: the runs that the page is to tell of"
            )
        folder = Path(self.output).parent
        if Path(self.output).is_dir():
            self._fail("output", "is a folder; give the name of a file, such as report.html")
        if not folder.is_dir():
            self._fail(
                "output", f"the folder {folder} does not exist; create it, or give another output"
            )
