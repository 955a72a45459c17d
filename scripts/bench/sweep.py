"""Measure the overhead of a sweep: tokenizing, the start of each job, the table at the end.

    python scripts/bench/sweep.py [--jobs 8] [--table 1000] [KEY=VALUE ...]

Runs ``python -m korlm.train -m`` with --jobs seeds of one step each, and measures the seconds from
the start of each job to the start of its training. Then creates the files of --table finished jobs
and measures how long their results table and plot take. KEY=VALUE overrides are passed to
korlm.train; without prepared=FOLDER, the first job prepares the default corpus.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_utils import Seconds, argument_parser, time_calls

from korlm.sweeps.callback import SweepTable
from korlm.utils.io.atomic_files import write_json

METRICS = ("perplexity", "bits_per_char", "eojeol_perplexity")


def run_sweep(folder: Path, jobs: int, overrides: list[str]) -> tuple[list[float], int]:
    """Run a sweep in ``folder``.

    Returns:
        Seconds from the start of each job to its training, and how often text was tokenized.
    """
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    command = [sys.executable, "-m", "korlm.train", "-m", "trainer.max_steps=1", seeds, *overrides]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seconds: list[float] = []
    started, times_tokenized = 0.0, 0
    for line in process.stdout:
        if "\t#" in line:  # Hydra announces a job
            started = time.perf_counter()
        elif line.startswith("training a "):
            seconds.append(time.perf_counter() - started)
        times_tokenized += line.startswith("tokenizing ") and " characters with " in line
    if process.wait() != 0:
        raise SystemExit(f"the sweep ended with exit code {process.returncode}")
    return seconds, times_tokenized


def time_table(folder: Path, jobs: int) -> Seconds:
    """Create the files of finished jobs; return the seconds of their table and plot."""
    for number in range(jobs):
        job = folder / str(number)
        (job / ".hydra").mkdir(parents=True)
        overrides = f"- seed={number}\n- optimizer.lr={1 + number % 7}\n- model.hidden_dim=200\n"
        (job / ".hydra" / "overrides.yaml").write_text(overrides, "utf-8")
        metrics = {"num_tokens": 10, "num_unk": 1, **dict.fromkeys(METRICS, 100.0 + number)}
        write_json(job / "metrics.json", {"valid": metrics, "test": metrics})
        write_json(job / "training.json", {"seconds": 1.0, "num_parameters": number})
    SweepTable.folder = folder
    return time_calls(SweepTable.write_results)


def main() -> None:
    """Measure the sweep and the table, and print the seconds."""
    parser = argument_parser(__doc__)
    parser.add_argument("--jobs", type=int, default=8, help="jobs of the sweep, at least 2")
    parser.add_argument("--table", type=int, default=1000, help="finished jobs in the table")
    options, overrides = parser.parse_known_args()
    logging.getLogger("korlm").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        seconds, times_tokenized = run_sweep(Path(name), options.jobs, overrides)
        print(f"{options.jobs} jobs: text was tokenized {times_tokenized} time(s)")
        print(f"start of the first job, with imports and preparation: {seconds[0]:.2f} s")
        later = seconds[1:]
        print(
            f"start of a later job: median {statistics.median(later):.2f} s, max {max(later):.2f} s"
        )
        wall, cpu = time_table(Path(name) / "table", options.table)
        print(f"table and plot of {options.table} jobs: {wall:.2f} s, {cpu:.2f} s of CPU time")


if __name__ == "__main__":
    main()
