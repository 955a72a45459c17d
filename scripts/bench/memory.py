"""Peak memory of preparing a corpus against one ten times as large.

    python scripts/bench/memory.py FILE [--tokenizer syllable] [--times 10]

FILE is a text with one document a line. The larger corpus is FILE written --times times, a mark
before each copy of a line so that documents differ. Stated limit: 1.2 times the memory for 10 times
the text. Workers' memory counts: the figure is the largest sum over the command and its children.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                found += family(int(child))
        except OSError:
            continue
    return found


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MiB; shared pages count for each."""
    total = 0
    for member in family(pid):
        try:
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


def prepare(text: Path, folder: Path, tokenizer: str) -> tuple[float, float]:
    """Prepares a corpus; gives its peak memory in MiB and the seconds it took."""
    command = [sys.executable, "-m", "korlm.prepare", "corpus=text", f"corpus.files=[{text}]"]
    command += ["corpus.document_unit=line", f"tokenizer={tokenizer}"]
    started, peak = time.perf_counter(), 0.0
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while child.poll() is None:
        peak = max(peak, resident_mb(child.pid))
        time.sleep(0.02)
    if child.returncode != 0:
        raise SystemExit(child.returncode)
    return peak, time.perf_counter() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokenizer", default="syllable")
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    lines = options.file.read_text(encoding="utf-8").splitlines(keepends=True)
    peaks = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for times in (1, options.times):
            text = folder / f"{times}.txt"
            with open(text, "w", encoding="utf-8") as file:
                for copy in range(times):
                    file.writelines(f"{copy} {line}" for line in lines)
            peak, seconds = prepare(text, folder, options.tokenizer)
            peaks.append(peak)
            size = text.stat().st_size / 1e6
            print(f"{size:8.1f} MB of text: peak {peak:7.1f} MiB, {size / seconds:6.2f} MB/s")
    print(f"{options.times} times the text: {peaks[1] / peaks[0]:.3f} times the memory (limit 1.2)")


if __name__ == "__main__":
    main()
