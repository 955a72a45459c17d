"""Jobs of a cluster: requeued at their time limit, with several processes, cancelled."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from conftest import LIGHT, ROOT, Command, TinyCorpus
from sweep_results import results, when

from korlm.sweeps.launchers.base import SweepJob
from korlm.sweeps.launchers.submitit_launcher import LocalLauncher, SlurmLauncher

pytest.importorskip("submitit")
SHORT = [*LIGHT, "trainer.max_steps=60", "trainer.eval_every=10", "trainer.sample_tokens=0"]
LOCAL = ["-m", "hydra/launcher=submitit_local"]
SLURM = ["-m", "hydra/launcher=submitit_slurm"]
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


def send(number: int, folder: Path) -> None:
    """Send a signal to the processes of all jobs of a sweep."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"submitit.core._submit" in words and str(folder).encode() in b" ".join(words):
            os.kill(int(path.parent.name), number)


@needs_proc
def test_the_time_limit(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """The signal before it arrives during training; metrics equal those of an uninterrupted run."""
    sweep = [*tiny.overrides, *SHORT, "seed=1"]
    assert korlm("train", "-m", *sweep, "hydra.sweep.dir=whole").code == 0
    limited = tmp_path / "limited"
    best = limited / "0/checkpoints/best.pt"
    minutes = "hydra.launcher.timeout_min=5"
    with when(best.exists, lambda: send(signal.SIGUSR2, limited)):
        ended = korlm("train", *LOCAL, minutes, *sweep, f"hydra.sweep.dir={limited}")
    assert ended.code == 0, ended.err
    logs = "".join(path.read_text("utf-8") for path in limited.glob(".submitit/*/*_log.*"))
    assert "(99 remaining timeouts)" in logs and "timed-out" in logs
    log = (limited / "0/train.log").read_text("utf-8")
    assert log.count("training a lstm") == 2 and ", from step " in log
    assert results(limited) == results(tmp_path / "whole")


def test_two_processes_a_job(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    """Metrics equal those of one process; an error of a job occurs in all its processes."""
    parts = ("input", "hidden", "output", "embedding", "weight")
    even = [f"model.dropout_{part}=0" for part in parts]
    even += [*tiny.overrides, *SHORT, "trainer.max_steps=4", "batches.batch_size=4,5"]
    assert korlm("train", "-m", *even, "hydra.sweep.dir=one").code == 0
    ended = korlm("train", *LOCAL, "hydra.launcher.tasks_per_node=2", *even, "hydra.sweep.dir=two")
    assert ended.code == 1
    assert "must be a multiple of 2" in (
        tmp_path / "two/batches.batch_size=5/failed.txt"
    ).read_text("utf-8")
    assert "by 2 processes" in (tmp_path / "two/batches.batch_size=4/train.log").read_text("utf-8")
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    (job,) = two
    assert job == "batches.batch_size=4"
    for split, figures in one[job].items():
        assert two[job][split] == pytest.approx(figures, rel=1e-5)


def test_ctrl_c(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that have not started leave no files."""
    last = tmp_path / "outputs/sweeps"
    sweep = [
        *tiny.overrides,
        *SHORT,
        "trainer.max_steps=100000",
        "trainer.epochs=1000",
        "seed=1,2,3",
    ]
    monkeypatch.setattr(LocalLauncher, "_shares", lambda *_: [{}])
    best = "*/seed=1/checkpoints/best.pt"
    with when(lambda: bool(list(last.glob(best))), lambda: os.kill(os.getpid(), signal.SIGINT)):
        ended = korlm("train", *LOCAL, *sweep)
    assert ended.code == 130
    (job,) = last.glob("*/seed=*")
    assert (job / "checkpoints/last.pt").is_file() and not (job / "failed.txt").exists()
    assert "hydra/launcher=submitit_local" in ended.err.splitlines()[-1]


def test_the_reason_of_a_job_whose_process_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read from what the job wrote to stderr."""
    monkeypatch.setattr(LocalLauncher, "_shares", lambda *_: [{}])
    script = "echo korlm: it is too cold >&2; kill -9 $PPID"
    job = SweepJob(0, (), tmp_path / "job", ("sh", "-c", script))
    job.folder.mkdir()
    launcher = LocalLauncher(folder=str(tmp_path / "logs/%j"))
    assert launcher.run_all([job]) == {job: "it is too cold"}


SBATCH = """
import os, re, subprocess, sys
script = open(sys.argv[1]).read()
count = int(re.search(r"--array=0-(\\d+)%", script).group(1)) + 1
for task in range(count):
    own = {"SLURM_JOB_ID": str(78 + task), "SLURM_ARRAY_JOB_ID": "77"}
    own |= {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    own |= {"SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    with open(os.devnull) as nothing, open(os.devnull, "w") as nowhere:
        subprocess.Popen(
            ["sh", sys.argv[1]], env={**os.environ, **own}, stdin=nothing, stdout=nowhere,
            stderr=nowhere, start_new_session=True,
        )
print("Submitted batch job 77")
"""
SRUN = """
import os, sys
at = next(at for at, word in enumerate(sys.argv) if "python" in word and at)
os.execv(sys.argv[at], sys.argv[at:])
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install fake commands of SLURM, which run an array on this machine."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    queue = "print('77_0', '77_1', sep='\\n')"
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "squeue": queue, "scancel": ""}.items():
        (folder / name).write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
        (folder / name).chmod(0o755 | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(SlurmLauncher, "poll_seconds", 0.2)
    return folder


@pytest.mark.usefixtures("slurm")
def test_an_array(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    own = ["partition=gpu", "gpus_per_node=1", "timeout_min=90", "setup=['export KORLM_X=1']"]
    own += ["mem_gb=8", "array_parallelism=1"]
    own = [f"hydra.launcher.{setting}" for setting in own]
    own.append("+hydra.launcher.additional_parameters.nice=5")
    sweep = [*tiny.overrides, *SHORT, "trainer.max_steps=4", "batches.batch_size=4,9999"]
    ended = korlm("train", *SLURM, *own, *sweep, "hydra.sweep.dir=s")
    assert ended.code == 1
    assert "batches.batch_size=9999" in ended.err.splitlines()[-1]
    assert set(results(tmp_path / "s")) == {"batches.batch_size=4"}
    assert "job batches.batch_size=9999 starts as job 77_1 of the queue\n" in ended.out
    (path,) = tmp_path.glob("s/.submitit/*.sh") or tmp_path.glob("s/.submitit/*/*.sh")
    script = path.read_text("utf-8")
    for line in (
        *("array=0-1%1", "partition=gpu", "gpus-per-node=1", "time=90", "mem=8GB", "nice=5"),
        *("requeue", "signal=USR2@120", "cpus-per-task=1", "ntasks-per-node=1"),
    ):
        assert f"#SBATCH --{line}\n" in script
    assert "export KORLM_X=1" in script


@pytest.mark.usefixtures("slurm")
def test_a_job_that_leaves_the_queue_without_a_result(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM may keep no accounts of jobs that were cancelled or killed."""
    (slurm / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 77\n", "utf-8")
    calls = tmp_path / "calls"
    (slurm / "squeue").write_text(f"#!/bin/sh\necho >> {calls}\n", "utf-8")
    monkeypatch.setattr(SlurmLauncher, "_log_end", lambda *_: None)
    jobs = [SweepJob(number, (), tmp_path / f"job{number}", ("false",)) for number in range(12)]
    for job in jobs:
        job.folder.mkdir()
    launcher = SlurmLauncher(folder=str(tmp_path / "logs/%j"))
    reasons = launcher.run_all(jobs)
    for job in jobs:
        assert reasons[job].startswith("its process died (exit code 1), possibly out of memory;")
    assert len(calls.read_text("utf-8")) < len(jobs)  # the jobs share the answers


def test_a_refusal(korlm: Command, slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'invalid partition: x' >&2; exit 1\n", "utf-8")
    ended = korlm("train", *SLURM, "seed=1,2")
    assert ended.code == 1
    line = ended.err.splitlines()[-1]
    assert "sbatch failed" in line and "invalid partition: x" in line


def test_mistakes(korlm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    for arguments, words in {
        tuple(SLURM): ("submitit_slurm", "no sbatch", "submitit_local"),
        (*LOCAL, "hydra.launcher.tasks_per_node=0"): ("tasks_per_node=0", "1 or more"),
        (*LOCAL, "hydra.launcher.nodes=2"): ("nodes=2", "must be 1"),
        (*LOCAL, "hydra.launcher.timeout_min=2"): ("signal_delay_s=120", "timeout_min=2"),
        (*LOCAL, "hydra.launcher.gpus_per_node=2"): ("2 GPUs for each job", "0 are available"),
    }.items():
        ended = korlm("train", *arguments)
        assert all(word in ended.err.splitlines()[-1] for word in words), ended.err
        assert len(ended.err.splitlines()) == 1


def test_jobs_can_import_korlm(monkeypatch: pytest.MonkeyPatch) -> None:
    from korlm.sweeps.launchers.base import importable_korlm

    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    with importable_korlm():
        assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "elsewhere"]
    assert os.environ["PYTHONPATH"] == "elsewhere"
    monkeypatch.delenv("PYTHONPATH")
    with importable_korlm():
        assert os.environ["PYTHONPATH"] == str(ROOT)
    assert "PYTHONPATH" not in os.environ
