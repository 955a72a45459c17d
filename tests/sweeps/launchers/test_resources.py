"""Cores and GPUs of one machine among jobs."""

from pathlib import Path

import pytest

from korlm.sweeps.launchers.resources import VISIBLE, environments, jobs_at_a_time, visible_gpus


@pytest.mark.parametrize(
    ("named", "expected"),
    [("0,1", ["0", "1"]), ("GPU-a,GPU-b", ["GPU-a", "GPU-b"]), ("-1", []), ("1,-1,2", ["1"])],
)
def test_gpus_in_the_environment(named: str, expected: list[str]) -> None:
    assert visible_gpus({VISIBLE: named}) == expected


def test_gpus_that_the_driver_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == []
    fake = tmp_path / "nvidia-smi"
    parts = r"GPU 0: A (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-2)\nGPU 1: A (UUID: GPU-3)"
    fake.write_text(f"#!/bin/sh\nprintf '{parts}\\n'\n", encoding="utf-8")
    fake.chmod(0o755)
    assert visible_gpus({}) == ["0", "1"]
    fake.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n", encoding="utf-8")
    assert visible_gpus({}) == []


def test_each_job_has_gpus_of_its_own() -> None:
    pairs = environments(2, 8, 1, ["4", "5", "6", "7"], gpus_each=2)
    assert [share[VISIBLE] for share in pairs] == ["4,5", "6,7"]
    assert environments(2, 8, 1, []) == [{}, {}]


@pytest.mark.parametrize("cores", [1, 2, 7, 64])
@pytest.mark.parametrize("threads", [None, 1, 3, 100])
def test_the_cores_are_never_shared_out_twice(cores: int, threads: int | None) -> None:
    count = jobs_at_a_time(10, cores, threads, 0)
    assert 1 <= count <= 10
    each = threads or int(environments(count, cores, threads, [])[0]["OMP_NUM_THREADS"])
    assert count * each <= max(cores, each)
