"""Compare the peak memory of preparing a corpus with that of a corpus ten times as large.

    python scripts/bench/memory.py FILE [--tokenizer syllable] [--times 10]

Each line of FILE is a document. The larger corpus has --times copies of it; a number in front of
each line makes its documents distinct. Memory is the resident memory of the command and all its
children. The expected limit is 1.2 times the memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_utils import argument_parser, resident_mb

INTERVAL = 0.02  # seconds between two measurements of memory


def prepare(text: Path, folder: Path, tokenizer: str) -> tuple[float, float]:
    """Prepare a corpus in ``folder``; return the peak memory in MiB and the seconds."""
    command = [sys.executable, "-m", "korlm.prepare", "corpus=text", f"corpus.files=[{text}]"]
    command += ["corpus.document_unit=line", f"tokenizer={tokenizer}"]
    started, peak = time.perf_counter(), 0.0
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while child.poll() is None:
        peak = max(peak, resident_mb(child.pid))
        time.sleep(INTERVAL)
    if child.returncode != 0:
        raise SystemExit(child.returncode)
    return peak, time.perf_counter() - started


def main() -> None:
    """Prepare both corpora and print memory and speed."""
    parser = argument_parser(__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="text in UTF-8")
    parser.add_argument("--tokenizer", default="syllable", help="a tokenizer of korlm")
    parser.add_argument("--times", type=int, default=10, help="copies in the larger corpus")
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
