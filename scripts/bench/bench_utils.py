"""Helpers that the benchmarks share: command line, timing of variants in turns, child processes."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False):
            return action.help
        return super()._get_help_string(action)


def argument_parser(docstring: str | None) -> argparse.ArgumentParser:
    """Return a parser whose ``--help`` prints a module's docstring and all defaults."""
    return argparse.ArgumentParser(description=docstring, formatter_class=_HelpFormatter)


class Seconds(NamedTuple):
    """A duration by the clock (``wall``), and the CPU time of this process in it."""

    wall: float
    cpu: float


def time_calls(function: Callable[[], object], calls: int = 1) -> Seconds:
    """Return the mean duration of ``calls`` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        function()
    return Seconds((time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls)


def in_turns(
    variants: Mapping[K, Callable[[], T]], rounds: int, warmup_rounds: int = 0
) -> dict[K, list[T]]:
    """Call all variants once per round; return what each returned, without the warmup rounds.

    Taking turns exposes all variants to the same slow phases of a shared machine.
    """
    results: dict[K, list[T]] = {name: [] for name in variants}
    for round_number in range(warmup_rounds + rounds):
        for name, variant in variants.items():
            result = variant()
            if round_number >= warmup_rounds:
                results[name].append(result)
    return results


def median_seconds(durations: Sequence[Sequence[float]]) -> Seconds:
    """Return the median wall time and the median CPU time of (wall, cpu) pairs."""
    return Seconds(*map(statistics.median, zip(*durations, strict=True)))


def speedup(base: Seconds, other: Seconds) -> str:
    """Return how many times as fast as ``base`` the other is, by both times, as text."""
    return f"{base.wall / other.wall:.2f} times as fast, {base.cpu / other.cpu:.2f} by CPU time"


def run_child(*arguments: object) -> Any:
    """Run Python in a new process, and return its last line of stdout, parsed as JSON."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout.splitlines()[-1])


def process_tree(pid: int) -> list[int]:
    """Return the ids of a process and its descendants (Linux only)."""
    pids = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            pids += process_tree(int(child))
    return pids


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its living descendants have used (Linux only)."""
    ticks = 0
    for member in process_tree(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        ticks += int(fields[11]) + int(fields[12])  # in user and in system mode
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants in MiB.

    A page that several processes share counts once for each.
    """
    total = 0
    for member in process_tree(pid):
        try:
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])  # KiB
        except OSError:  # the process has ended
            continue
    return total / 1024
