"""Workers are found, asked for and let go; what stands in the way is told in one line."""

import importlib.util
import os
import re
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Command, TinyCorpus

pytest.importorskip("distributed", reason="pip install 'korlm[cluster]'")
if importlib.util.find_spec("dask_jobqueue") is None:
    pytest.skip("pip install 'korlm[cluster]'", allow_module_level=True)

from korlm.config import ClusterConfig, KkmaConfig, TokenizerConfig
from korlm.data import cluster
from korlm.data.cluster import Crew
from korlm.errors import ClusterError

# As SLURM's: takes a script, gives a number; what it says of a job's memory and cores stays behind.
SBATCH = """#!/bin/sh
[ -e refused ] && echo "sbatch: error: no such partition" >&2 && exit 1
cp "$1" job.$$ && sh "$1" >job.$$.out 2>&1 &
echo "Submitted batch job $!"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which sbatch starts jobs at once, in this folder."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in (("sbatch", SBATCH), ("scancel", "#!/bin/sh\nkill $1\n")):
        (tools / name).write_text(script)
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nobody_there(korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "REACH_SECONDS", 1)
    told = korlm("prepare", "tokenizer=syllable", "prepare.cluster=tcp://127.0.0.1:1").error
    assert "prepare.cluster=tcp://127.0.0.1:1: no Dask scheduler answers there" in told


def test_workers_that_others_started_must_know_korlm(tmp_path: Path) -> None:
    class Client:
        def run_on_scheduler(self, asked: Callable[[], bool]) -> bool:
            return asked()

        def run(self, asked: Callable[[], bool], on_error: str) -> dict[str, bool]:
            return {"tcp://a:1": asked(), "tcp://b:2": not asked()}

    crew = Crew(ClusterConfig(cluster="tcp://a:9"), TokenizerConfig(name="syllable"), tmp_path)
    crew.client = Client()
    with pytest.raises(ClusterError, match="korlm is not installed where tcp://b:2 runs"):
        crew.check()


@pytest.mark.parametrize("package", ["distributed", "dask_jobqueue"])
def test_without_the_package(package: str, korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cluster", "distribute", "shard_maker"):
        monkeypatch.delitem(sys.modules, f"korlm.data.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    wanted = ["tokenizer=syllable", "prepare.cluster=slurm", "prepare.workers=2"]
    assert "pip install 'korlm[cluster]'" in korlm("prepare", *wanted).error


def test_settings_that_do_not_fit(korlm: Command) -> None:
    two = korlm("prepare", "prepare.cluster=local", "tokenizer.workers=2").error
    assert two == (
        "korlm: tokenizer.workers=2: each worker of a cluster has one; give prepare.workers"
    )
    little = korlm("prepare", "prepare.cluster=local", "prepare.memory_gb=1").error
    assert "no room for a JVM" in little and "prepare.memory_gb" in little


def test_without_slurm(korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    told = korlm("prepare", "prepare.cluster=slurm", "prepare.workers=2").error
    assert "there is no sbatch on this machine" in told


def test_slurm(korlm: Command, tiny: TinyCorpus, slurm: Path) -> None:
    command = ["prepare", *tiny.overrides, "tokenizer=syllable", "report=false"]
    asked = ["prepare.cluster=slurm", "prepare.workers=1", "prepare.sbatch=['--nice=5']"]
    (slurm / "refused").touch()
    assert "sbatch says: no such partition" in korlm(*command, *asked).error
    (slurm / "refused").unlink()
    assert korlm(*command, *asked, "prepare.interface=lo").code == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert korlm(*command, "outputs=alone").code == 0
    (folder,) = (p for p in (slurm / "alone/prepared").iterdir() if p.name[0] != ".")
    for path in folder.rglob("*"):
        if path.is_file():
            there = slurm / "outputs" / path.relative_to(slurm / "alone")
            assert there.read_bytes() == path.read_bytes()


def test_what_slurm_is_asked_for(slurm: Path) -> None:
    config = ClusterConfig(cluster="slurm", workers=64, queue="long", walltime="02:00:00")
    with Crew(config, KkmaConfig(name="kkma"), slurm / "logs") as crew:
        script = crew._cluster.job_script()
    for line in ("-p long", "-n 1", "--cpus-per-task=4", "--mem=3G", "-t 02:00:00"):
        assert re.search(rf"^#SBATCH {line}$", script, re.MULTILINE), script
    assert "--nthreads 4 --memory-limit 2.25GiB" in script
    assert "export PYTHONPATH=" in script and str(slurm / "logs") in script
