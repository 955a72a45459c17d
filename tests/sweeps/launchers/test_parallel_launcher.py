"""Parallel jobs of a sweep: the same metrics as in sequence, even if one of them fails."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import LIGHT, Command, TinyCorpus
from sweep_results import results, when

from korlm.config import Device
from korlm.sweeps.launchers.base import SweepJob
from korlm.sweeps.launchers.parallel_launcher import JobProcess, ParallelLauncher
from korlm.sweeps.launchers.resources import VISIBLE
from korlm.sweeps.launchers.submitit_launcher import LocalLauncher
from korlm.utils.errors import ConfigError

SHORT = [*LIGHT, "trainer.max_steps=6", "trainer.eval_every=2", "trainer.sample_tokens=0"]
PARALLEL = ["-m", "hydra/launcher=parallel", "hydra.launcher.n_jobs=2"]


def test_parallel_jobs_equal_sequential_jobs(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    """One job fails; the results of a finished sweep are read, not computed again."""
    sweep = [*tiny.overrides, *SHORT, "batches.batch_size=4,9999"]
    assert korlm("train", "-m", *sweep, "hydra.sweep.dir=a").code == 1
    ended = korlm("train", *PARALLEL, *sweep, "hydra.sweep.dir=b")
    assert ended.code == 1
    assert "batches.batch_size=9999" in (
        tmp_path / "b/batches.batch_size=9999/failed.txt"
    ).read_text("utf-8")
    assert ended.err.splitlines()[-1].startswith("korlm: job batches.batch_size=9999: train has ")
    assert set(results(tmp_path / "a")) == {"batches.batch_size=4"}
    assert results(tmp_path / "b") == results(tmp_path / "a")
    assert "job batches.batch_size=4 starts\n" in ended.out
    assert re.search(
        r"job batches.batch_size=4 finished \(\d of 2\) .*: valid.perplexity \d", ended.out
    )
    assert re.search(
        r"job batches.batch_size=9999 failed \(\d of 2\) after .*: train has", ended.out
    )
    assert "best model" not in ended.out
    assert "best model" in (tmp_path / "b/.output/batches.batch_size=4.log").read_text("utf-8")
    assert (tmp_path / "outputs/prepared").is_dir(), "not in the folder of a job"
    again = korlm("train", *PARALLEL, *sweep, "batches.batch_size=4", "hydra.sweep.dir=b")
    assert again.code == 0, again.err
    assert "starts" not in again.out


def test_a_killed_process_loses_its_own_job(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill, and Ctrl-C while resuming, the metrics are still the same."""
    sweep = [*tiny.overrides, *SHORT, "seed=1,2", "trainer.max_steps=60", "trainer.eval_every=10"]
    assert korlm("train", "-m", *sweep, "hydra.sweep.dir=whole").code == 0
    processes: list[JobProcess] = []
    begin = JobProcess.__init__

    def keep(self: JobProcess, *arguments: Any) -> None:
        begin(self, *arguments)
        processes.append(self)

    monkeypatch.setattr(JobProcess, "__init__", keep)

    best = tmp_path / "b/seed=1/checkpoints/best.pt"
    with when(best.exists, lambda: processes[0].process.kill()):
        ended = korlm("train", *PARALLEL, *sweep, "hydra.sweep.dir=b")
    assert ended.code == 1
    failed = (tmp_path / "b/seed=1/failed.txt").read_text("utf-8")
    assert failed.startswith("its process died (signal 9), possibly out of memory; see ")
    assert set(results(tmp_path / "b")) == {"seed=2"}

    best.unlink()
    with when(best.exists, lambda: os.kill(os.getpid(), signal.SIGINT)):
        ended = korlm("train", *PARALLEL, "resume=b")
    assert ended.code == 130
    last = ended.err.splitlines()[-1]
    assert last.endswith("/b hydra/launcher=parallel hydra.launcher.n_jobs=2")
    assert (tmp_path / "b/seed=1/checkpoints/last.pt").is_file()
    assert "job seed=1 stopped" in ended.out
    assert korlm("train", "-m", "resume=b").code == 0, "any launcher goes on"
    assert results(tmp_path / "b") == results(tmp_path / "whole")


def test_a_process_has_its_own_share(tmp_path: Path) -> None:
    show = (sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
    jobs = [SweepJob(at, (), tmp_path / str(at), show) for at in range(2)]
    shares = [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    processes = [JobProcess(job, share) for job, share in zip(jobs, shares, strict=True)]
    assert [process.process.wait() for process in processes] == [0, 0]
    assert [process.output.read_text() for process in processes] == ["3\n", "5\n"]


def test_gpus_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,7")

    def visible(launcher: Any, device: Device = Device.auto) -> list[str | None]:
        launcher.config = SimpleNamespace(trainer=SimpleNamespace(threads=1, device=device))
        return [share.get(VISIBLE) for share in launcher._shares(5)]

    assert visible(ParallelLauncher()) == ["4", "7"]
    assert visible(ParallelLauncher(n_jobs=3)) == ["4", "7", "4"]
    assert set(visible(ParallelLauncher(), Device.cpu)) == {None}
    assert visible(LocalLauncher(folder="x/%j")) == ["4", "7"]
    assert visible(LocalLauncher(folder="x/%j", tasks_per_node=2)) == ["4,7"]
    assert set(visible(LocalLauncher(folder="x/%j", gpus_per_node=0))) == {""}
    with pytest.raises(ConfigError, match="3 GPUs for each job, but 2 are available"):
        visible(LocalLauncher(folder="x/%j", tasks_per_node=3))


def test_mistakes(korlm: Command, tmp_path: Path) -> None:
    few = "hydra.launcher.n_jobs=0"
    for arguments, words in {
        ("train", *PARALLEL[:2], few): (f"korlm: {few}: must be in [1, 4096]",),
        ("train", *PARALLEL, "hydra.launcher.jobs=2"): ("jobs",),
        ("train", "-m", "hydra/launcher=nowhere"): ("nowhere", "parallel", "submitit_slurm"),
        ("train", "hydra/launcher=parallel"): ("hydra/launcher=parallel", "add -m"),
        ("prepare", *PARALLEL): ("hydra/launcher=parallel", "korlm.train, not of korlm.prepare"),
    }.items():
        error = korlm(*arguments).error
        assert all(word in error for word in words), error
    assert not list(tmp_path.iterdir())


def test_the_old_name(korlm: Command) -> None:
    ended = korlm("train", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0")
    assert ended.err.startswith("hydra/launcher=joblib is now hydra/launcher=parallel; ")
