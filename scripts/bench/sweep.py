"""What a sweep costs beside training: tokenizing, the start of each job, the table at the end.

    python scripts/bench/sweep.py [--jobs 8] [--table 1000] [any override of train]

Starts the command itself with --jobs seeds, one step each, and notes when it begins with a job and
when that job begins to train. Then lays out --table finished jobs and makes their table and
picture. Overrides must come last; without any, the default corpus is prepared first.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from korlm.sweeps.callback import SweepTable
from korlm.utils.io.atomic_files import write_json

FIGURES = ("perplexity", "bits_per_char", "eojeol_perplexity")


def starts(folder: Path, jobs: int, overrides: list[str]) -> tuple[list[float], int]:
    """Seconds from the beginning of each job to its training; how often text was tokenized."""
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    command = [sys.executable, "-m", "korlm.train", "-m", "trainer.max_steps=1", seeds, *overrides]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seconds: list[float] = []
    began, tokenized = 0.0, 0
    for line in process.stdout:
        if "\t#" in line:
            began = time.perf_counter()
        elif line.startswith("training a "):
            seconds.append(time.perf_counter() - began)
        tokenized += line.startswith("tokenizing ") and " characters with " in line
    if process.wait() != 0:
        raise SystemExit(f"the sweep ended with exit code {process.returncode}")
    return seconds, tokenized


def table(folder: Path, jobs: int) -> tuple[float, float]:
    """Seconds for table and picture of so many finished jobs, and those of the processor."""
    for number in range(jobs):
        job = folder / str(number)
        (job / ".hydra").mkdir(parents=True)
        typed = f"- seed={number}\n- optimizer.lr={1 + number % 7}\n- model.hidden_dim=200\n"
        (job / ".hydra" / "overrides.yaml").write_text(typed, "utf-8")
        figures = {"num_tokens": 10, "num_unk": 1, **dict.fromkeys(FIGURES, 100.0 + number)}
        write_json(job / "metrics.json", {"valid": figures, "test": figures})
        write_json(job / "training.json", {"seconds": 1.0, "num_parameters": number})
    SweepTable.folder = folder
    began, worked = time.perf_counter(), time.process_time()
    SweepTable.write_results()
    return time.perf_counter() - began, time.process_time() - worked


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--table", type=int, default=1000)
    given, overrides = parser.parse_known_args()
    logging.getLogger("korlm").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        seconds, tokenized = starts(Path(name), given.jobs, overrides)
        print(f"{given.jobs} jobs: text was tokenized {tokenized} time(s)")
        print(f"start of the first job {seconds[0]:.2f} s, which prepares and imports")
        later = seconds[1:]
        print(f"of a later one {statistics.median(later):.2f} s (at most {max(later):.2f} s)")
        whole, worked = table(Path(name) / "t", given.table)
        print(
            f"table and picture of {given.table} jobs {whole:.2f} s, the processor's {worked:.2f}"
        )


if __name__ == "__main__":
    main()
