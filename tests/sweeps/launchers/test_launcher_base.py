"""The command of a job, and the reason of its failure."""

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from korlm.runs.directories import FAILED
from korlm.sweeps.launchers.base import _failure
from korlm.sweeps.launchers.parallel_launcher import ParallelLauncher


@pytest.fixture
def launcher() -> ParallelLauncher:
    launcher = ParallelLauncher()
    hydra = ["hydra.mode=MULTIRUN", "hydra/launcher=parallel", "hydra.verbose=true"]
    sweep = {"sweep": {"dir": "s"}, "overrides": {"hydra": hydra}}
    launcher.config = OmegaConf.create({"objective": "valid.perplexity", "hydra": sweep})
    return launcher


def test_the_command_of_a_job(
    launcher: ParallelLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "-m", "--config-dir", "mine", "seed=1,2"])
    job = launcher._job(["seed=2", "resume=s", "imports=[a]"], 7)
    assert (job.number, job.folder) == (7, tmp_path / "s" / "7")
    assert job.command[1:] == (
        *("-m", "korlm.train", "--config-dir", "mine", "seed=2", "imports=[a]"),
        *("hydra.verbose=true", f"hydra.run.dir={job.folder}", "hydra.job.num=7"),
    )


def test_why_a_job_failed(tmp_path: Path) -> None:
    output = tmp_path / "log"
    output.write_text("step 1\nkorlm: another process works on this job\n")
    assert _failure(tmp_path, output, 130) == ""
    assert _failure(tmp_path, output, 1) == "another process works on this job"
    assert not (tmp_path / FAILED).exists()
    output.write_text("step 1\n")
    assert _failure(tmp_path, output, -9).startswith("its process died (signal 9)")
    assert (tmp_path / FAILED).read_text().startswith("its process died")
    (tmp_path / FAILED).write_text("too large\n")
    assert _failure(tmp_path, output, 1) == "too large"
