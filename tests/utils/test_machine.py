"""Cores available to a process; freed memory is kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from korlm.utils import machine


@pytest.fixture(autouse=True)
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a control group on a machine with eight cores."""
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    return tmp_path


def test_without_a_container() -> None:
    assert machine.available_cores() == 8


@pytest.mark.parametrize(
    ("limit", "count"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("250000 100000\n", 3)],
)
def test_a_container_has_less(group: Path, limit: str, count: int) -> None:
    (group / "cpu.max").write_text(limit)
    assert machine.available_cores() == count


@pytest.mark.parametrize(("quota", "count"), [("-1\n", 8), ("300000\n", 3), ("9000000\n", 8)])
def test_a_container_of_the_first_version(group: Path, quota: str, count: int) -> None:
    (group / "cpu").mkdir()
    (group / "cpu/cpu.cfs_quota_us").write_text(quota)
    (group / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert machine.available_cores() == count


@pytest.mark.parametrize(("granted", "count"), [("3", 3), ("64", 8), ("0", 1), ("", 8)])
def test_a_task_of_slurm_has_the_requested_cores(
    granted: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
    assert machine.available_cores() == count


# Page faults of twenty blocks of 40 MB, each freed before the next, without and with
# keep_freed_memory.
CODE = """
import resource, torch
from korlm.utils.machine import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(10_000_000).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
plain = faults()
assert keep_freed_memory()
faults()  # the heap grows once
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_blocks_are_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert kept * 5 < plain
