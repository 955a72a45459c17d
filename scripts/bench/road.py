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


def seconds_to_first_step(folder: Path) -> float:
    """From the command to the end of its first optimizer step, start of Python included."""
    started = time.perf_counter()
    child = subprocess.Popen(
        [*TRAIN, "trainer.log_every=1", "trainer.epochs=30"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    before = set(folder.glob("outputs/runs/*/tensorboard/*"))
    try:
        while time.perf_counter() - started < 60:
            for events in set(folder.glob("outputs/runs/*/tensorboard/*")) - before:
                # The writer flushes late; what shows that training began is the first validation.
                if events.stat().st_size:
                    for best in events.parent.parent.glob("checkpoints/best.pt"):
                        return best.stat().st_mtime - time.time() + time.perf_counter() - started
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    raise TimeoutError("no training within 60 s")


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
            ("second run, to the end of its first epoch", 5.0, seconds_to_first_step(folder)),
        ]
    for name, limit, found in rows:
        verdict = "within" if found <= limit else "OVER"
        print(f"{name:45} {found:7.2f} s   {verdict} the limit of {limit:g} s")


if __name__ == "__main__":
    main()
