"""Connections to clusters, and the errors of those that cannot be used."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command

pytest.importorskip("distributed", reason="needs korlm[cluster]")
if importlib.util.find_spec("dask_jobqueue") is None:
    pytest.skip("needs korlm[cluster]", allow_module_level=True)

from korlm.config import ClusterConfig, TokenizerConfig
from korlm.dataset.cluster import client
from korlm.dataset.cluster.client import ClusterClient
from korlm.utils.errors import ClusterError, install_command


def test_nobody_there(korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REACH_SECONDS", 1)
    told = korlm("prepare", "tokenizer=syllable", "prepare.cluster=tcp://127.0.0.1:1").error
    assert "prepare.cluster=tcp://127.0.0.1:1: no Dask scheduler answers there" in told


def test_workers_that_others_started_must_know_korlm(tmp_path: Path) -> None:
    class Client:
        def run_on_scheduler(self, asked: Callable[[], bool]) -> bool:
            return asked()

        def run(self, asked: Callable[[], bool], on_error: str) -> dict[str, bool]:
            return {"tcp://a:1": asked(), "tcp://b:2": not asked()}

    connection = ClusterClient(
        ClusterConfig(cluster="tcp://a:9"), TokenizerConfig(name="syllable"), tmp_path
    )
    connection.client = Client()
    with pytest.raises(ClusterError, match="korlm is not installed where tcp://b:2 runs"):
        connection.check()


@pytest.mark.parametrize("package", ["distributed", "dask_jobqueue"])
def test_without_the_package(package: str, korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("client", "scheduler", "task", "slurm"):
        monkeypatch.delitem(sys.modules, f"korlm.dataset.cluster.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    wanted = ["tokenizer=syllable", "prepare.cluster=slurm", "prepare.workers=2"]
    assert install_command("distributed", "dask-jobqueue") in korlm("prepare", *wanted).error


def test_settings_that_do_not_fit(korlm: Command) -> None:
    two = korlm("prepare", "prepare.cluster=local", "tokenizer.workers=2").error
    assert two == (
        "korlm: tokenizer.workers=2: each worker of a cluster has one; give prepare.workers"
    )
    little = korlm("prepare", "prepare.cluster=local", "prepare.memory_gb=1").error
    assert "no room for a JVM" in little and "prepare.memory_gb" in little
