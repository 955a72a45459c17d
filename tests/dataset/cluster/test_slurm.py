"""Workers in SLURM jobs: the job script, and jobs that end too early."""

import importlib.util
import os
import re
import signal
import stat
from pathlib import Path

import pytest
from conftest import Command, TinyCorpus

pytest.importorskip("distributed", reason="needs korlm[cluster]")
if importlib.util.find_spec("dask_jobqueue") is None:
    pytest.skip("needs korlm[cluster]", allow_module_level=True)

from korlm.config import ClusterConfig, KkmaConfig
from korlm.dataset.cluster import slurm as station
from korlm.dataset.cluster.client import ClusterClient

# As SLURM's, which keeps a script before sbatch ends. But jobs start at once, here, what is asked
# of memory and cores stays unheard, and as many jobs end at once as the file `unlucky` has lines.
TOOLS = {
    "sbatch": """#!/bin/sh
[ -e refused ] && echo "sbatch: error: no such partition" >&2 && exit 1
cp "$1" job.$$
if [ -s unlucky ]; then
    sed -i 1d unlucky
    log=$(sed -n "s/^#SBATCH -e \\(.*\\)%J.err/\\1$$.err/p" job.$$)
    mkdir -p "$(dirname "$log")" && echo "slurmstepd: error: no room" >"$log"
else
    sh job.$$ >job.$$.out 2>&1 &
    echo $! >$$.pid
fi
echo "Submitted batch job $$"
""",
    "scancel": '#!/bin/sh\nkill "$(cat $1.pid)"\n',
    "squeue": """#!/bin/sh
for file in *.pid; do
    [ -e "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null && echo "${file%.pid}"
done
exit 0
""",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which sbatch starts jobs at once, in this folder."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in TOOLS.items():
        (tools / name).write_text(script)
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(station, "ASK_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_slurm(korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    told = korlm("prepare", "prepare.cluster=slurm", "prepare.workers=2").error
    assert "there is no sbatch on this machine" in told


def test_slurm(korlm: Command, tiny: TinyCorpus, slurm: Path) -> None:
    command = ["prepare", *tiny.overrides, "tokenizer=syllable", "report=false"]
    asked = ["prepare.cluster=slurm", "prepare.workers=1", "prepare.sbatch=['--nice=5']"]
    (slurm / "refused").touch()
    assert "sbatch: no such partition" in korlm(*command, *asked).error
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
    with ClusterClient(config, KkmaConfig(name="kkma"), slurm / "logs") as crew:
        script = crew._cluster.job_script()
    for line in ("-p long", "-n 1", "--cpus-per-task=4", "--mem=3G", "-t 02:00:00"):
        assert re.search(rf"^#SBATCH {line}$", script, re.MULTILINE), script
    assert "--nthreads 4 --memory-limit 2.25GiB" in script
    assert "export PYTHONPATH=" in script and str(slurm / "logs") in script


ASKED = ["tokenizer=syllable", "report=false", "prepare.cluster=slurm", "prepare.interface=lo"]


def test_a_job_that_ends_before_its_worker_is_there_is_asked_for_again(
    korlm: Command, tiny: TinyCorpus, slurm: Path
) -> None:
    (slurm / "unlucky").write_text("\n\n")
    ended = korlm("prepare", *tiny.overrides, *ASKED, "prepare.workers=1")
    assert ended.code == 0
    told = r"SLURM job \d+ ended before its worker started: \S+\.err: slurmstepd: .* no room"
    assert len(re.findall(told, ended.out)) == 2


def test_jobs_that_all_end_are_given_up(korlm: Command, tiny: TinyCorpus, slurm: Path) -> None:
    (slurm / "unlucky").write_text("\n" * 100)
    told = korlm("prepare", *tiny.overrides, *ASKED, "prepare.workers=4").error
    assert "slurmstepd: error: no room; so did 3 others, and no worker has started" in told
    logs = Path(told.rpartition("their output is in ")[2])
    assert len(list(logs.glob("*.err"))) >= station.MAX_INITIAL_FAILURES


def test_when_squeue_says_nothing_jobs_are_waited_for(
    korlm: Command, tiny: TinyCorpus, slurm: Path
) -> None:
    (slurm / "tools/squeue").write_text("#!/bin/sh\nexit 1\n")
    ended = korlm("prepare", *tiny.overrides, *ASKED, "prepare.workers=1")
    assert ended.code == 0 and "ended before" not in ended.out
