"""The end of a sweep (-m): one table of all its jobs, printed and kept as results.tsv.

Knows nothing but what the jobs left in their folders (``.hydra/overrides.yaml``, ``metrics.json``,
``training.json``, ``failed.txt``), so that jobs may have run anywhere and at any time.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from korlm.errors import KorlmError

logger = logging.getLogger(__name__)

# Column of the table, file and keys of the figure.
FIGURES: dict[str, tuple[str, ...]] = {
    "valid_perplexity": ("metrics.json", "valid", "perplexity"),
    "test_perplexity": ("metrics.json", "test", "perplexity"),
    "valid_bits_per_char": ("metrics.json", "valid", "bits_per_char"),
    "valid_eojeol_perplexity": ("metrics.json", "valid", "eojeol_perplexity"),
    "num_parameters": ("training.json", "num_parameters"),
    "tokens_per_second": ("training.json", "tokens_per_second"),
    "seconds": ("training.json", "seconds"),
}


@dataclass(frozen=True)
class Job:
    """What a job of a sweep left behind.

    Attributes:
        name: of its folder, the job's number.
        overrides: key -> value of its settings, as typed.
        figures: those of FIGURES that there are; infinite where metrics.json has null.
        failure: why it has no figures, in one line; empty if it has.
    """

    name: str
    overrides: dict[str, str]
    figures: dict[str, float]
    failure: str

    def order(self, figure: str) -> tuple[bool, float, int, str]:
        """The best first, failures last."""
        value = self.figures.get(figure, math.inf)
        return (bool(self.failure), value, len(self.name), self.name)


class SweepTable(Callback):
    """Hydra's word of where a sweep begins; its own word of the end is lost if a job fails.

    Attributes:
        folder: of the sweep that this process began, if it did.
    """

    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Called before the first job."""
        SweepTable.folder = Path(str(config.hydra.sweep.dir)).absolute()

    @classmethod
    def tell(cls) -> None:
        """Writes and prints the table of the sweep that has ended, if there was one."""
        folder, cls.folder = cls.folder, None
        jobs = read_jobs(folder) if folder else []
        if folder and jobs:
            rows = build_rows(jobs)
            path = folder / "results.tsv"
            lines = ["\t".join(_cell(value) for value in row) + "\n" for row in rows]
            path.write_text("".join(lines), encoding="utf-8")
            logger.info("%d jobs, the best first; %s:\n%s", len(jobs), path, _aligned(rows))


def note_failure(folder: Path, error: Exception) -> None:
    """Leaves the reason of a failed job in its folder."""
    reason = str(error) if isinstance(error, KorlmError) else f"{type(error).__name__}: {error}"
    (folder / "failed.txt").write_text(" ".join(reason.split()) + "\n", encoding="utf-8")


def read_jobs(folder: Path) -> list[Job]:
    """All jobs of a sweep, the best first."""
    jobs = [_read_job(path.parents[1]) for path in folder.glob("*/.hydra/overrides.yaml")]
    tokens = {
        tuple(pair for pair in job.overrides.items() if pair[0].startswith(("tokenizer", "vocab")))
        for job in jobs
    }
    # Perplexities of other tokens cannot be compared.
    figure = "valid_perplexity" if len(tokens) == 1 else "valid_bits_per_char"
    return sorted(jobs, key=lambda job: job.order(figure))


def _read_job(folder: Path) -> Job:
    typed = OmegaConf.to_object(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))
    assert isinstance(typed, list)
    pairs = (str(override).partition("=") for override in typed)
    overrides = {key.lstrip("+~"): value for key, _, value in pairs}
    files = {name: _read_json(folder / name) for name in ("metrics.json", "training.json")}
    figures = {}
    for column, (name, *keys) in FIGURES.items():
        value: Any = files[name]
        for key in keys:
            value = value.get(key, math.nan) if isinstance(value, dict) else value
        if value is None or not math.isnan(value):
            figures[column] = math.inf if value is None else value
    failure = ""
    if not files["metrics.json"]:
        failed = folder / "failed.txt"
        failure = failed.read_text("utf-8").strip() if failed.exists() else "not finished"
    return Job(folder.name, overrides, figures, failure)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def build_rows(jobs: Sequence[Job]) -> list[list[str | float]]:
    """The table: a head, and a row for each job with the settings in which the jobs differ.

    >>> build_rows([Job("0", {"seed": "1", "name": "a"}, {"valid_perplexity": 7.0}, ""),
    ...             Job("1", {"seed": "2", "name": "a"}, {}, "the disk is full")])
    ... # doctest: +NORMALIZE_WHITESPACE
    [['job', 'seed', 'valid_perplexity', 'failure'],
     ['0', '1', 7.0, ''],
     ['1', '2', '', 'the disk is full']]
    """
    keys = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    varying = [key for key in keys if len({job.overrides.get(key) for job in jobs}) > 1]
    columns = [column for column in FIGURES if any(column in job.figures for job in jobs)]
    failures = ["failure"] if any(job.failure for job in jobs) else []
    rows: list[list[str | float]] = [["job", *varying, *columns, *failures]]
    for job in jobs:
        settings = [job.overrides.get(key, "") for key in varying]
        figures = [job.figures.get(column, "") for column in columns]
        rows.append([job.name, *settings, *figures, *([job.failure] if failures else [])])
    return rows


def _cell(value: str | float) -> str:
    """As results.tsv has it: numbers in full."""
    return " ".join(value.split()) if isinstance(value, str) else str(value)


def _aligned(rows: Sequence[Sequence[str | float]]) -> str:
    """As people read it: rounded, in columns, numbers to the right."""
    cells = [[_rounded(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_text = [all(isinstance(v, str) for v in column) for column in zip(*rows[1:], strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, is_text, strict=True)
        ).rstrip()
        for row in cells
    )
    return "\n".join(lines)


def _rounded(value: str | float) -> str:
    if isinstance(value, str):
        return _cell(value)
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
