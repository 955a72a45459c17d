"""Command: write an HTML report of runs or of a sweep."""

from __future__ import annotations

import logging
from pathlib import Path

from korlm.config import ReportSettings
from korlm.sweeps.command import command
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


@command("report", literal=("title",), renamed={"sweep": "sweep_dir"})
def main(settings: ReportSettings) -> None:
    """Read the files of the runs, without loading models, and write the page."""
    from korlm.reporting.html import build_page, write_page
    from korlm.reporting.run_summary import best_first, find_jobs, find_runs, read_run

    sweep = Path(settings.sweep_dir) if settings.sweep_dir else None
    folders = find_jobs(sweep) if sweep else find_runs(settings.runs)
    progress = ProgressBar(folders.items(), "reading", unit="run")
    runs = best_first([read_run(folder, name) for name, folder in progress])
    for run in runs:
        for problem in run.problems:
            logger.warning("%s: %s", run.folder, problem)
    content = f"{len(runs)} runs" if len(runs) > 1 else f"Run {runs[0].name}"
    title = settings.title or (f"Sweep {sweep.name}" if sweep else content)
    output = Path(settings.output)
    write_page(output, build_page(title, runs))
    logger.info("%s: %s, %s bytes", output, content, f"{output.stat().st_size:,}")


if __name__ == "__main__":
    main()
