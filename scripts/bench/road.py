"""Times the commands as users meet them: the first run, the second, --help and --cfg job.

    python scripts/bench/road.py [FOLDER]

Stated limits, on 2 cores: the default run ends within 120 s, Java's start and tokenizing included;
a second one has begun to train within 5 s of the command; --help and --cfg job answer within 1.5 s.
Works in FOLDER (default: a temporary one), which must be empty.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = [sys.executable, "-m", "korlm.train"]


def seconds_of(command: list[str], folder: Path) -> float:
    """Wall-clock seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def seconds_to_training(folder: Path) -> float:
    """From the command to the line that says that training begins, start of Python included."""
    started = time.perf_counter()
    child = subprocess.Popen(
        TRAIN, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if line.startswith("training a "):
                return time.perf_counter() - started
    finally:
        child.kill()
        child.wait()
    raise SystemExit("the second run did not come to training")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, nargs="?", help="an empty folder to work in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        rows = [
            ("--help", 1.5, min(seconds_of([*TRAIN, "--help"], folder) for _ in range(3))),
            ("--cfg job", 1.5, min(seconds_of([*TRAIN, "--cfg", "job"], folder) for _ in range(3))),
            ("default run, from raw text to metrics.json", 120.0, seconds_of(TRAIN, folder)),
            ("second run, to the start of training", 5.0, seconds_to_training(folder)),
        ]
    for name, limit, found in rows:
        verdict = "within" if found <= limit else "OVER"
        print(f"{name:45} {found:7.2f} s   {verdict} the limit of {limit:g} s")


if __name__ == "__main__":
    main()
