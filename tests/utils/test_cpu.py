"""Number of cores available to a process."""

import os
from pathlib import Path

import pytest

from korlm.utils import cpu


@pytest.fixture(autouse=True)
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a control group on a machine with eight cores."""
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(cpu, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    return tmp_path


def test_without_a_container() -> None:
    assert cpu.available_cores() == 8


@pytest.mark.parametrize(
    ("limit", "count"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("250000 100000\n", 3)],
)
def test_a_container_has_less(group: Path, limit: str, count: int) -> None:
    (group / "cpu.max").write_text(limit)
    assert cpu.available_cores() == count


@pytest.mark.parametrize(("quota", "count"), [("-1\n", 8), ("300000\n", 3), ("9000000\n", 8)])
def test_a_container_of_the_first_version(group: Path, quota: str, count: int) -> None:
    (group / "cpu").mkdir()
    (group / "cpu/cpu.cfs_quota_us").write_text(quota)
    (group / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cpu.available_cores() == count


@pytest.mark.parametrize(("granted", "count"), [("3", 3), ("64", 8), ("0", 1), ("", 8)])
def test_a_task_of_slurm_has_the_requested_cores(
    granted: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
    assert cpu.available_cores() == count
