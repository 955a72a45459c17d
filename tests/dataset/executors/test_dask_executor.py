"""A cluster prepares the same corpus as one machine, byte for byte, even if workers die."""

import functools
import importlib.util
import logging
import os
import platform
import random
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import deadly
import pytest
from conftest import LIGHT, Command, TinyCorpus

from korlm.dataset import assemble, tokenize
from korlm.dataset import prepare as preparation

pytest.importorskip("distributed", reason="needs korlm[cluster]")
if importlib.util.find_spec("dask_jobqueue") is None:
    pytest.skip("needs korlm[cluster]", allow_module_level=True)

import dask
from distributed import Client, LocalCluster, Nanny

from korlm.config import (
    ClusterConfig,
    CorpusConfig,
    DocumentUnit,
    KkmaConfig,
    SentencePieceConfig,
    TokenizerConfig,
    UnicodeForm,
    VocabConfig,
)
from korlm.dataset.executors import clusters, dask_executor, remote_call, worker
from korlm.dataset.executors.dask_executor import DaskExecutor
from korlm.dataset.storage.piece_files import read_record
from korlm.utils.errors import (
    ClusterError,
    CorpusError,
    TokenizerError,
    install_command,
)
from korlm.utils.progress import ProgressBar

SYLLABLE = TokenizerConfig(name="syllable")
PIECE_BYTES = 1500


def start_cluster(num_workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=num_workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Yield the address of a running scheduler with two workers."""
    allowed = {"distributed.scheduler.allowed-failures": 1}
    with dask.config.set(allowed), start_cluster(2) as running:
        yield running.scheduler_address


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    """Return a corpus of about ten pieces of three splits; one line has the mark."""
    rng = random.Random(1)
    words = ["나는", "학교에", "간다", "KBS", "😀", "e\u0301", "\u1112\u1161\u11ab", "JAVA!"]
    lines = [" ".join(rng.choices(words, k=rng.randrange(6))) for _ in range(600)]
    lines[150] = deadly.MARK
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CorpusConfig(name="test", files=[str(path)], document_unit=DocumentUnit.line)


Make = Callable[..., dict[str, bytes]]


@pytest.fixture
def make(corpus: CorpusConfig, tmp_path: Path) -> Make:
    """Return a function that prepares into a folder and returns the files of the corpus."""

    def run(
        name: str, cluster: str | None = None, tokenizer: TokenizerConfig = SYLLABLE, **more: Any
    ) -> dict[str, bytes]:
        config = ClusterConfig(cluster=cluster, piece_mb=PIECE_BYTES / 1e6, **more)
        vocab, outputs = VocabConfig(min_freq=1), tmp_path / name
        prepared = preparation.prepare(corpus, tokenizer, vocab, outputs, False, config)
        assert not list(outputs.glob("prepared/.*"))
        return files(prepared.folder)

    return run


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_equal_bytes(make: Make, address: str) -> None:
    alone = make("alone")
    assert sum(name.startswith("tokens/train") for name in alone) > 4
    assert make("two", address) == alone
    with Client(address, set_as_default=False) as client:  # a vocabulary takes memory
        assert set(client.run(lambda: assemble._load_encoder.cache_info().currsize).values()) == {0}


def test_a_trained_tokenizer_is_sent_to_workers(make: Make, address: str) -> None:
    pytest.importorskip("sentencepiece")
    pieces = SentencePieceConfig(name="sentencepiece", vocab_size=40)
    assert make("two", address, pieces) == make("alone", tokenizer=pieces)


def test_a_single_document_is_split_and_normalized(
    make: Make, corpus: CorpusConfig, address: str
) -> None:
    corpus.document_unit, corpus.unicode = DocumentUnit.file, UnicodeForm.nfkc
    path = Path(corpus.files[0])
    path.write_text(path.read_text(encoding="utf-8").replace("KBS", "ＫＢＳ"), encoding="utf-8")
    alone = make("alone")
    splits = {name.split("-")[0] for name in alone if name.startswith("tokens/")}
    assert splits == {"tokens/train", "tokens/valid", "tokens/test"}
    assert make("two", address) == alone


def test_a_worker_that_dies(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    dying = functools.partial(deadly.once, str(marker))
    monkeypatch.setattr(worker, "tokenize_on_worker", dying)
    assert make("two", address) == make("alone")
    assert marker.exists()


def test_a_piece_that_ends_its_workers_is_named(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker, "tokenize_on_worker", deadly.always)
    with pytest.raises(ClusterError) as caught:
        make("two", address)
    (partial,) = (tmp_path / "two/prepared").glob(".*.partial")
    alone = make("alone")
    count = sum(name.startswith("counts/") for name in alone)
    records = [read_record(partial, number) for number in range(count)]
    assert records.count(None) == 1
    message = str(caught.value)
    assert message.startswith("the cluster could not process 1 of the pieces: ")
    assert re.search(r"text.txt \([\d,]+ to [\d,]+\): its workers died \(.*memory_gb\); ", message)
    assert message.endswith("also without prepare.cluster: tokenized pieces are kept")
    assert "\n" not in message
    assert make("two") == alone  # without the cluster, that piece alone


def test_workers_that_cannot_be_started_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starts: list[object] = []

    async def start(nanny: Nanny) -> Any:
        starts.append(nanny)
        if len(starts) > 1:
            raise OSError
        return await real_start(nanny)

    real_start = Nanny.instantiate
    monkeypatch.setattr(Nanny, "instantiate", start)
    monkeypatch.setattr(clusters, "LOST_SECONDS", 1)
    dying = functools.partial(deadly.once, str(tmp_path / "died"))
    monkeypatch.setattr(worker, "tokenize_on_worker", dying)
    with pytest.raises(ClusterError, match=r"=local: all workers ended.*same command continues"):
        make("one", "local", workers=1)


def test_interrupted_work_continues(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[object] = []

    def interrupt(*arguments: Any, **settings: Any) -> Iterator[Any]:
        for result in real_tokenize(*arguments, **settings):
            yield result
            ended.append(result)
            if len(ended) == 4:
                raise KeyboardInterrupt

    real_tokenize = DaskExecutor.tokenize
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DaskExecutor, "tokenize", interrupt)
        make("two", address)
    (partial,) = (tmp_path / "two/prepared").glob(".*.partial")
    before = {path: path.stat().st_mtime_ns for path in partial.glob("pieces/*.json")}
    assert len(before) >= 4
    (partial / "tokens" / ".train-00001.parquet.abc").write_bytes(b"half")  # of a killed process
    real = preparation.assemble

    def check(*arguments: Any) -> None:
        assert all(path.stat().st_mtime_ns == time for path, time in before.items())
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "assemble", check)
        broken_off = make("two", address)
    assert broken_off == make("alone")


def test_a_file_that_changes_is_named(
    make: Make, corpus: CorpusConfig, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preparation.starts_of

    def change(*arguments: Any) -> Any:
        with open(corpus.files[0], "ab") as file:
            file.write("너\n".encode())
        return real(*arguments)

    monkeypatch.setattr(preparation, "starts_of", change)
    with pytest.raises(CorpusError, match=r"text.txt: has changed while it was read; run the"):
        make("two", address)


def test_workers_of_other_versions_are_refused(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = remote_call.versions() | {"korlm": "9", "pyarrow": "1"}
    monkeypatch.setattr(remote_call, "versions", lambda: others)
    with pytest.raises(ClusterError, match=r"the worker tcp:.* not 9; .*: install the same versio"):
        make("two", address)


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[LocalCluster]:
    """Yield a cluster of one worker that has its own scheduler."""
    with start_cluster(1) as running:
        yield running


NO_KORLM = "import sys; sys.modules['korlm'] = None"
NO_TOKENIZER = """
from korlm.dataset.executors import worker
from korlm.utils.errors import TokenizerError

def fail(tokenizer):
    raise TokenizerError("Java is not installed")

worker._fit_to_worker = fail
"""


@pytest.mark.parametrize(
    ("preload", "problem"),
    [
        (NO_KORLM, "has no korlm: install the same versions where the workers run"),
        (NO_TOKENIZER, "cannot start syllable: Java is not installed"),
    ],
    ids=["korlm", "tokenizer"],
)
def test_a_late_worker_that_is_unsuitable_is_stopped(
    preload: str,
    problem: str,
    make: Make,
    growing: LocalCluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    marker = tmp_path / "tokenized"
    waiting = functools.partial(deadly.wait_for_refusal, str(marker))
    monkeypatch.setattr(worker, "tokenize_on_worker", waiting)
    real_stop, real_tokenize = DaskExecutor._stop_worker, DaskExecutor.tokenize

    def stop(executor: DaskExecutor, answer: remote_call.Answer, others_work: bool) -> None:
        real_stop(executor, answer, True)  # as if a piece were done
        marker.touch()

    def tokenize(*arguments: Any) -> Any:
        growing.new_spec["options"]["preload"] = [preload]
        growing.scale(2)
        return real_tokenize(*arguments)

    monkeypatch.setattr(DaskExecutor, "_stop_worker", stop)
    monkeypatch.setattr(DaskExecutor, "tokenize", tokenize)
    assert make("two", growing.scheduler_address) == make("alone")
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING)
    assert re.fullmatch(
        rf"the worker tcp://\S+ {problem}; it is stopped, the others continue", warning
    )


def test_a_worker_without_the_tokenizer_is_named(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_java(*arguments: object) -> None:
        raise TokenizerError("Java is not installed")

    monkeypatch.setattr(worker, "_fit_to_worker", no_java)
    settings = tokenize.TokenizeSettings(
        CorpusConfig(name="a", files=["a"]), SYLLABLE, None, tmp_path, {}
    )
    version = worker.tokenizer_version(SYLLABLE)

    def problem_of(version: str) -> str:
        function = functools.partial(worker.tokenize_on_worker, settings, version)
        return remote_call.run_call(remote_call.pickle_call(function, None))[0]

    assert problem_of(version) == "cannot start syllable: Java is not installed"
    assert re.search(r"has syllable .*, not 99: install the same version", problem_of("99"))


def test_an_unsuitable_worker_ends_a_run_that_has_just_begun(unconnected: Any) -> None:
    answer = remote_call.Answer("tcp://a:1", "has no korlm", None)
    unconnected._client = SimpleNamespace(nthreads=lambda: {"tcp://a:1": 1})
    with pytest.raises(ClusterError, match=r"=tcp://a:9: the worker tcp://a:1 has no korlm$"):
        unconnected._stop_worker(answer, others_work=False)
    expected = r"no worker is left: the last one, tcp://a:1, has no korlm; the same command"
    with pytest.raises(ClusterError, match=expected):
        unconnected._stop_worker(answer, others_work=True)


def unsuitable_after_one(item: str) -> str:
    if item != "first":
        raise remote_call.UnsuitableWorkerError("has no Java")
    return item


def test_a_worker_refused_after_doing_the_only_items_ends_a_run(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DaskExecutor(ClusterConfig(cluster=address), SYLLABLE, tmp_path) as executor:
        client = executor._client
        (only, *_) = client.nthreads()
        submit = functools.partial(client.submit, workers=[only])
        monkeypatch.setattr(client, "submit", submit)
        monkeypatch.setattr(client, "retire_workers", None)
        results = executor.run_all(unsuitable_after_one, ["first", "second"])
        with pytest.raises(ClusterError, match=rf"the worker {only} has no Java$"):
            list(results)


@pytest.mark.parametrize("count", [1, 2])
def test_changed_texts_are_an_error_of_the_corpus(count: int, unconnected: Any) -> None:
    errors = [CorpusError(f"{name}.txt: has changed") for name in "ab"[:count]]
    failed = [(f"piece of {error}", error) for error in [*errors, *errors[1:]]]
    error = unconnected._failure([*failed], 0)
    assert isinstance(error, CorpusError)
    assert str(error) == "; ".join(map(str, errors))


def test_a_search_without_results_ends_early(
    make: Make, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "tokenize_on_worker", deadly.failing)
    with pytest.raises(ClusterError, match=r"first 4 pieces failed.*No space left"):
        make("two", address)


def test_training_prepares_in_the_same_way(
    korlm: Command, tiny: TinyCorpus, address: str, tmp_path: Path
) -> None:
    arguments = ("train", *tiny.overrides, *LIGHT, "trainer.max_steps=1")
    ended = korlm(*arguments, f"prepare.cluster={address}")
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "outputs/prepared").glob("*/tokens/*.parquet"))) == 3
    (run,) = (tmp_path / "outputs/runs").iterdir()
    assert f"cluster: {address}" in (run / ".hydra/config.yaml").read_text("utf-8")
    assert (
        "has no effect beside prepared=x"
        in korlm(*arguments, "prepared=x", "prepare.cluster=local").error
    )


@pytest.mark.jvm
def test_kkma_on_a_local_cluster(make: Make) -> None:
    kkma = KkmaConfig(name="kkma", threads=1, heap_mb=512, cache_size_mb=0)
    alone = make("alone", tokenizer=kkma)
    one = make("one", "local", kkma, workers=1, options={"protocol": "tcp"})
    for name in ("report.tsv", "manifest.json"):  # with times
        del alone[name], one[name]
    assert {n: d for n, d in one.items() if not n.startswith("reports/")} == {
        n: d for n, d in alone.items() if not n.startswith("reports/")
    }


# Connections


@pytest.fixture
def unconnected(tmp_path: Path) -> Any:
    """Return an executor for tcp://a:9 that has no client."""
    return DaskExecutor(ClusterConfig(cluster="tcp://a:9"), SYLLABLE, tmp_path)


def test_a_scheduler_that_is_lost(address: str, tmp_path: Path) -> None:
    with DaskExecutor(ClusterConfig(cluster=address), SYLLABLE, tmp_path) as executor:
        future = executor._client.submit(len, "")
        future.cancel()  # as the client does with all of them when it loses the scheduler
        with pytest.raises(ClusterError, match=r"lost the connection.*same command continues"):
            executor._error_of(future)


def test_a_cluster_that_does_not_close_starts_no_workers() -> None:
    def close(timeout: float) -> None:
        raise clusters.TimeoutError

    nanny = SimpleNamespace(auto_restart=True)
    clusters.close_cluster(SimpleNamespace(close=close, workers={0: nanny}))
    assert not nanny.auto_restart


def test_no_scheduler(korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_executor, "REACH_SECONDS", 1)
    error = korlm("prepare", "tokenizer=syllable", "prepare.cluster=tcp://127.0.0.1:1").error
    assert "prepare.cluster=tcp://127.0.0.1:1: no Dask scheduler answers within 1 s; start" in error


def test_workers_of_another_cluster_need_korlm(
    unconnected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(function: Callable[..., str], *arguments: Any, on_error: str) -> Any:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "korlm", None)
            gone = ConnectionError("closed")
            return {"tcp://a:1": "", "tcp://c:3": gone, "tcp://b:2": function(*arguments)}

    unconnected._client = SimpleNamespace(get_versions=lambda: versions_of_python({}), run=run)
    expected = r"=tcp://a:9: the worker tcp://b:2 has no korlm: install the same versions where"
    with pytest.raises(ClusterError, match=expected):
        unconnected._check_versions()


def versions_of_python(others: dict[str, str]) -> dict[str, Any]:
    """Return what ``Client.get_versions`` does for a scheduler and two workers."""
    here = f"{platform.python_version()}.final.0"
    found = {
        name: {"host": {"python": others.get(name, here)}}
        for name in ("scheduler", "tcp://a:1", "tcp://b:2")
    }
    return {"scheduler": found.pop("scheduler"), "workers": found}


@pytest.mark.parametrize(
    ("process", "name"), [("scheduler", "the scheduler"), ("tcp://b:2", "the worker tcp://b:2")]
)
def test_another_python_in_a_cluster(process: str, name: str, unconnected: Any) -> None:
    found = versions_of_python({process: "3.2.1.final.0"})
    unconnected._client = SimpleNamespace(get_versions=lambda: found)
    here = ".".join(platform.python_version_tuple()[:2])
    with pytest.raises(ClusterError, match=rf"{name} has Python 3\.2, not {re.escape(here)}: inst"):
        unconnected._check_versions()


class UnloadableFunction:
    """A function that a worker cannot load, like the bytecode of another version of Python."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_workers_that_cannot_be_checked(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_call, "check_function", UnloadableFunction)
    executor = DaskExecutor(ClusterConfig(cluster=address), SYLLABLE, tmp_path)
    with pytest.raises(ClusterError, match=r"the worker tcp:\S+ cannot be checked: "), executor:
        pass


def test_an_error_of_other_code_asks_for_the_version(unconnected: Any) -> None:
    error = AttributeError("no attribute 'encode'")
    future: Any = SimpleNamespace(exception=lambda: error, cancelled=lambda: False)
    with pytest.raises(ClusterError, match=r"'encode'; is korlm [0-9.]+ installed where the w"):
        unconnected._error_of(future)


def test_tls_without_certificates(korlm: Command, tmp_path: Path) -> None:
    arguments = ["prepare", "tokenizer=syllable", "prepare.cluster=tls://127.0.0.1:1"]
    expected = "prepare.cluster=tls://127.0.0.1:1: TLS needs certificates, ca-file, client.cert and"
    error = korlm(*arguments).error
    assert expected in error and error.endswith("settings of Dask: there are none")
    missing = str(tmp_path / "missing.pem")
    names = ("ca-file", "client.cert", "client.key")
    with dask.config.set({f"distributed.comm.tls.{name}": missing for name in names}):
        error = korlm(*arguments).error
    assert expected in error and error.endswith("No such file or directory")


@pytest.mark.parametrize("cluster", ["slurm", "kubernetes"])
def test_without_the_package(cluster: str, korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    package = {"slurm": "dask_jobqueue", "kubernetes": "dask_kubernetes"}[cluster]
    monkeypatch.setitem(sys.modules, package, None)
    expected = ["tokenizer=syllable", f"prepare.cluster={cluster}", "prepare.workers=2"]
    command = install_command("distributed", package.replace("_", "-"))
    assert command in korlm("prepare", *expected).error


def test_settings_that_do_not_fit(korlm: Command) -> None:
    two = korlm("prepare", "prepare.cluster=local", "tokenizer.workers=2").error
    assert two == (
        "korlm: tokenizer.workers=2: each worker of a cluster has one; give prepare.workers"
    )
    little = korlm("prepare", "prepare.cluster=local", "prepare.memory_gb=1").error
    assert "no room for a JVM" in little and "prepare.memory_gb" in little
    other = korlm(
        *("prepare", "tokenizer=syllable", "prepare.cluster=local"), "prepare.options={foo: 1}"
    )
    assert "did not start with prepare.options={'foo': 1}: " in other.error
    assert other.error.endswith("got an unexpected keyword argument 'foo'")


def test_workers_choose_their_heap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heap set by the driver would be one that the worker must not shrink."""
    kkma = KkmaConfig(name="kkma", threads=4, workers=1)
    executor = DaskExecutor(ClusterConfig(cluster="local", memory_gb=2.0), kkma, tmp_path)
    sent = []
    monkeypatch.setattr(
        executor, "run_all", lambda function, texts: sent.append(function.args[0]) or ()
    )
    settings = tokenize.TokenizeSettings(
        CorpusConfig(name="c", files=["a.txt"]), kkma, None, tmp_path, {}
    )
    assert not list(executor.tokenize(settings, [], tmp_path, ProgressBar(shown=False)))
    (sent_settings,) = sent
    fitted = worker.fit_to_memory(sent_settings.tokenizer, 1, 2048)
    assert isinstance(fitted, KkmaConfig)
    assert fitted.heap_mb == 1024 and fitted.workers == 1


def test_a_heap_that_fits() -> None:
    kkma = KkmaConfig(name="kkma", heap_mb=512)
    with pytest.raises(TokenizerError, match=r"no room for a JVM.*raise prepare.memory_gb"):
        worker.fit_to_memory(kkma, 4, 1024 + 100)
    for memory in (None, 1024 + 600, 4096):
        fitted = worker.fit_to_memory(kkma, 4, memory)
        assert isinstance(fitted, KkmaConfig)
        assert (fitted.heap_mb, fitted.threads, fitted.workers) == (512, 4, 1)
        assert worker.fit_to_memory(SYLLABLE, 4, memory) is SYLLABLE


# A fake SLURM: sbatch copies the script and starts the job at once on this machine. Requests for
# memory and cores are ignored.
TOOLS = {
    "sbatch": """#!/bin/sh
[ -e refused ] && echo "sbatch: error: no such partition" >&2 && exit 1
cp "$1" job.$$
sh job.$$ >job.$$.out 2>&1 &
echo $! >$$.pid
echo "Submitted batch job $$"
""",
    "scancel": '#!/bin/sh\nkill "$(cat $1.pid)"\n',
    "squeue": """#!/bin/sh
for file in *.pid; do kill -0 "$(cat $file)" 2>/dev/null && echo "${file%.pid}"; done
true
""",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a fake SLURM whose sbatch starts jobs at once."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in TOOLS.items():
        (tools / name).write_text(script)
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_slurm(korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    error = korlm("prepare", "prepare.cluster=slurm", "prepare.workers=2").error
    assert "there is no sbatch on this machine" in error


def test_slurm(korlm: Command, tiny: TinyCorpus, slurm: Path) -> None:
    command = ["prepare", *tiny.overrides, "tokenizer=syllable", "report=false"]
    options = "prepare.options={queue: long, interface: lo}"
    arguments = ["prepare.cluster=slurm", "prepare.workers=1", options]
    (slurm / "refused").touch()
    assert "sbatch: no such partition" in korlm(*command, *arguments).error
    (slurm / "refused").unlink()
    assert korlm(*command, *arguments).code == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert korlm(*command, "outputs=alone").code == 0
    prepared, alone = (next((slurm / name / "prepared").iterdir()) for name in ("outputs", "alone"))
    assert files(prepared) == files(alone)
    (script,) = {path.read_text("utf-8") for path in slurm.glob("job.*") if path.suffix != ".out"}
    for line in ("-p long", "-n 1", "--cpus-per-task=1", "--mem=1G"):
        assert re.search(rf"^#SBATCH {line}$", script, re.MULTILINE), script
    assert "--nthreads 1" in script and "export PYTHONPATH=" in script


def test_slurm_jobs_that_end_before_their_workers_start(
    korlm: Command, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "IDLE_SECONDS", 0.1)
    script = "echo no such module >dask-worker-7.err; echo Submitted batch job 7"
    (slurm / "tools/sbatch").write_text(f"#!/bin/sh\ncd outputs/cluster; {script}\n")
    (slurm / "7.pid").write_text("999999999")  # a process that has ended
    arguments = ["prepare.cluster=slurm", "prepare.workers=1", "prepare.options={interface: lo}"]
    error = korlm("prepare", "tokenizer=syllable", *arguments).error
    assert re.search(
        r"=slurm: the jobs ended before a worker started; their output is in \S+/cluster; the last "
        r"line of their output: no such module$",
        error,
    )
