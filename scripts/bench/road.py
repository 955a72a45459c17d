"""Times the commands as users meet them: the first run, the second, --help and --cfg job.

    python scripts/bench/road.py [FOLDER]

Each is compared with a peer of the same run: --help and --cfg job with the start of Python and of
Hydra, the beginning of a second training with the import of torch and TensorBoard, and the whole
first run with the training in it. Works in FOLDER (default: a temporary one), which must be empty.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = [sys.executable, "-m", "korlm.train"]
TORCH = "torch, torch.utils.tensorboard"


def seconds_of(command: list[str], folder: Path) -> float:
    """Wall-clock seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def fastest(command: list[str], folder: Path) -> float:
    """The least seconds of three."""
    return min(seconds_of(command, folder) for _ in range(3))


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
        python = fastest([sys.executable, "-c", "pass"], folder)
        hydra = fastest([sys.executable, "-c", "import hydra"], folder)
        torch = fastest([sys.executable, "-c", f"import {TORCH}"], folder)
        rows = [
            ("--help", fastest([*TRAIN, "--help"], folder), "Python", python),
            ("--cfg job", fastest([*TRAIN, "--cfg", "job"], folder), "import hydra", hydra),
        ]
        whole = seconds_of(TRAIN, folder)
        (times,) = folder.glob("outputs/runs/*/training.json")
        training = json.loads(times.read_text(encoding="utf-8"))["seconds"]
        rows += [
            ("first run, from raw text to metrics.json", whole, "its training", training),
            ("second run, to training", seconds_to_training(folder), f"import {TORCH}", torch),
        ]
    for name, found, peer, seconds in rows:
        print(f"{name:41} {found:7.2f} s, {found / seconds:5.2f} times {peer} ({seconds:.2f} s)")


if __name__ == "__main__":
    main()
