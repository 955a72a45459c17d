"""Settings of the HTML report about runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.config.registry import register
from korlm.config.validation import CommandSettings, setting
from korlm.utils.errors import ConfigError


@register("", "report")
@dataclass
class ReportSettings(CommandSettings):
    """Compare runs on one self-contained HTML page.

    The page has a table of the runs, sorted by result, with the settings in which they differ;
    training curves; perplexity by frequency and by position in the sentence, if korlm.evaluate has
    computed it; a text sampled from each model; and all settings. Unfinished runs are included.

      python -m korlm.report sweep=outputs/sweeps/DIR                  all jobs of a sweep
      python -m korlm.report 'runs=[outputs/runs/A,outputs/runs/B]'    two runs
      python -m korlm.report 'runs=[outputs/runs/*]' output=all.html   all runs
    """

    runs: Any = setting(None, "Run directory, a list of them, or globs.", is_path=True)
    sweep_dir: str | None = setting(
        None, "Sweep directory, instead of runs; on the command line sweep=DIR.", is_path=True
    )
    output: str = setting("report.html", "The page; an existing file is replaced.", is_path=True)
    title: str = setting("", "Title of the page; empty: the names of the runs.")

    def __post_init__(self) -> None:
        super().__post_init__()
        runs = self.runs if isinstance(self.runs, list) else [self.runs] if self.runs else []
        self.runs = [str(run) for run in runs]
        if bool(self.runs) == bool(self.sweep_dir):
            raise ConfigError("give either 'runs=[DIR,...]' or sweep=DIR: the runs to report on")
        folder = Path(self.output).parent
        if Path(self.output).is_dir():
            self._fail("output", "is a folder; give the name of a file, such as report.html")
        if not folder.is_dir():
            self._fail(
                "output", f"the folder {folder} does not exist; create it, or give another output"
            )
