"""Stage: runs or a sweep -> one HTML page that can be sent by mail."""

from __future__ import annotations

import logging
from pathlib import Path

from korlm.config import ReportSettings
from korlm.sweeps.command import stage
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


@stage("report", literal=("title",), renamed={"sweep": "sweep_dir"})
def main(settings: ReportSettings) -> None:
    """Reads what the runs left behind; opens no model."""
    from korlm.reporting.html import build_page, write_page
    from korlm.reporting.run_summary import best_first, find_runs, jobs_of, read_run

    folders = jobs_of(Path(settings.sweep_dir)) if settings.sweep_dir else find_runs(settings.runs)
    runs = best_first(
        [
            read_run(folder, name)
            for name, folder in ProgressBar(folders.items(), "reading", unit="run")
        ]
    )
    for run in runs:
        for problem in run.problems:
            logger.warning("%s: %s", run.folder, problem)
    number = f"{len(runs)} runs" if len(runs) > 1 else f"Run {runs[0].name}"
    default = f"Sweep {Path(settings.sweep_dir).name}" if settings.sweep_dir else number
    output = Path(settings.output)
    write_page(output, build_page(settings.title or default, runs))
    logger.info("%s: %s, %s bytes", output, number, f"{output.stat().st_size:,}")


if __name__ == "__main__":
    main()
