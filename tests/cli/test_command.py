"""Wrong input: one line that names key or file, value, limit; exit code 1; nothing left behind."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_server import CommandServer
from conftest import LIGHT, Command, TinyCorpus, new_checksums
from filelock import FileLock
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from korlm.cli.command import with_typed_arguments
from korlm.utils.errors import ConfigError

MISTAKES = {
    "model.name=foo": ("model.name=foo", "lstm"),
    "seed=99999999999999999999": ("seed=99999999999999999999", "in [0, 9223372036854775807]"),
    "name=a=b": ("name=a=b", "quotes"),
    "name='a b'": ("name=a b", "letters"),
    "trainer.tracker=mlflow": ("trainer.tracker=mlflow", "must be a list: [mlflow]"),
    "trainer.epochs=null": ("trainer.epochs", "must not be null"),
    "optimizer.nesterov=true": ("optimizer.nesterov", "another choice of optimizer"),
    "trainer.epoks=3": ("trainer.epoks", "trainer.epochs"),
    "epochs=3": ("epochs", "no such setting"),
    "+trainer.foo=3": ("trainer.foo", "no such setting"),
    "trainer.epochs=many": ("trainer.epochs=many", "Integer"),
    "trainer.epochs=0": ("trainer.epochs=0", "must be in [1, 1000000]"),
    "model=bigram": ("model=bigram", "must be one of gru, lstm, ngram, rnn, transformer, window"),
    "model=LSTM": ("model=LSTM", "gru, lstm, ngram", "did you mean lstm?"),
    "experiment=smok": ("experiment=smok", "char_rnn, ", "did you mean smoke?"),
    "hydra/job_logging=korlmm": ("hydra/job_logging=korlmm", "console", "did you mean korlm?"),
    "model.hidden_dropout=1.5": ("model.hidden_dropout=1.5", "in [0, 1)"),
    "model.bidirectional=true": ("model.bidirectional", "no such setting"),
    "model.initial_state=random": ("model.initial_state", "zero, learned"),
    "corpus=nsmc": ("corpus.path", "https://github.com/e9t/nsmc"),
    "corpus=text": ("corpus.files", "no text was named"),
    "resume=nowhere": ("resume=nowhere", "no such directory"),
    "prepared=nowhere": ("nowhere", "no such prepared corpus"),
    "seed": ("seed", "key=value"),
    "=3": ("=3", "key=value"),
    "a b=3": ("'a b'", "key=value"),
    "--cfg": ("--cfg", "missing"),
    "--cfg=jobb": ("--cfg=jobb", "job, hydra, all"),
    "seed=1,2": ("seed=1,2", "-m"),
    "seed=[": ("seed=[", "quotes"),
    "trainer=null": ("trainer=null", "auto, cpu, gpu"),
    "model=": ("model=", "lstm"),
    "model=[lstm,gru]": ("model=[lstm,gru]", "must be one of"),
    "seed=${seed}": ("seed", "Recursive"),
    "outputs=": ("outputs=", "empty"),
    "corpus.files=": ("corpus.files=", "empty"),
    "corpus.files=[a.txt,]": ("corpus.files=", "empty"),
    "outputs=~nobody-of-this-name/x": ("outputs=~nobody-of-this-name/x", "./~"),
    "--epochs": ("--epochs", "key=value"),
}


@pytest.mark.parametrize("override", MISTAKES)
def test_wrong_settings(korlm: Command, tmp_path: Path, override: str) -> None:
    error = korlm("train", override).error
    assert error.startswith("korlm: ")
    for word in MISTAKES[override]:
        assert word in error
    assert "$" not in error and "Traceback" not in error
    assert not list(tmp_path.rglob("*.*")), "something was left behind"


def test_settings_are_composed_once(korlm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    composed, compose = [], ConfigLoaderImpl.load_configuration

    def counted(*arguments: Any, **options: Any) -> Any:
        composed.append(arguments)
        return compose(*arguments, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    assert korlm("train", "prepared=nowhere").code == 1
    assert len(composed) == 1


def test_hangul_needs_no_quotes(korlm: Command) -> None:
    assert (
        "자료/없는글.txt" in korlm("train", "corpus=text", "corpus.files=[자료/없는글.txt]").error
    )


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


BAD_FILES = {
    "missing": (None, "neither a file, a folder nor a glob"),
    "empty": (b"", "empty"),
    "blank": (b"\n \n\t\n", "holds no text (blank lines"),
    "binary": (bytes(range(256)) * 8, "binary"),
    "cp949": ("첫 줄\n둘째 줄\n".encode("cp949"), "line 1, byte 4"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(korlm: Command, tmp_path: Path, tiny: TinyCorpus, kind: str) -> None:
    data, words = BAD_FILES[kind]
    path = tmp_path / "bad.txt"
    if data is not None:
        write(path, data)
    command = "prepare" if kind == "missing" else "train"
    files = [f"corpus.train=[{path}]", f"corpus.valid=[{tiny.valid}]"]
    error = korlm(command, "corpus=text", *files).error
    assert str(path) in error and words in error
    assert not (tmp_path / "outputs").exists()


def test_a_refused_corpus_removes_only_its_own_empty_folders(
    korlm: Command, tmp_path: Path, tiny: TinyCorpus
) -> None:
    table = write(tmp_path / "bad.tsv", b"id\ttext\n1\ta\tb\n")
    words = ["corpus=text", f"corpus.train={table}", f"corpus.valid={tiny.valid}"]
    assert "row 2 has 3 columns" in korlm("prepare", *words, "tokenizer=eojeol").error
    assert not (tmp_path / "outputs").exists()
    (tmp_path / "mine").mkdir()
    assert korlm("prepare", *words, "tokenizer=eojeol", "outputs=mine/own").code == 1
    assert list((tmp_path / "mine").iterdir()) == []


def test_text_too_small(korlm: Command, tiny: TinyCorpus) -> None:
    small = [*tiny.overrides, *LIGHT, "batches.batch_size=4000"]
    assert "batches.batch_size=4000" in korlm("train", *small).error
    small[-1:] = ["batches=sentence", "batches.batch_size=4000"]
    assert "batches.batch_size=4000" in korlm("train", *small).error


def test_no_known_token(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    error = korlm("prepare", *tiny.overrides, "tokenizer=eojeol", "vocab.min_freq=99999").error
    assert "vocab.min_freq=99999" in error
    assert not [p for p in (tmp_path / "outputs" / "prepared").iterdir() if p.name[0] != "."]


def test_folder_in_the_way(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    write(tmp_path / "outputs", b"a file")
    for command in (["prepare"], ["train"], ["train", "-m", "seed=1,2"]):
        error = korlm(*command, *tiny.overrides, "tokenizer=syllable").error
        assert "outputs" in error and "outputs=FOLDER" in error


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nobody may write")
def test_folder_that_cannot_be_written(korlm: Command, tiny: TinyCorpus) -> None:
    for command in ("prepare", "train"):
        error = korlm(command, *tiny.overrides, "tokenizer=syllable", "outputs=/proc/korlm").error
        assert "/proc/korlm" in error and "outputs=FOLDER" in error


FEW = ["trainer.epochs=1", "batches.batch_size=40"]  # ten steps


@pytest.fixture(scope="module")
def trained(
    server: CommandServer, tiny: TinyCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the outputs of a run of a few steps, and a copy of them."""
    folder = tmp_path_factory.mktemp("trained")
    ended = server.run(folder, "train", *tiny.overrides, *LIGHT, *FEW)
    assert ended.code == 0, ended.err
    shutil.copytree(folder / "outputs", folder / "copy")
    return folder / "outputs"


@pytest.fixture
def run(trained: Path) -> Path:
    """Return the unchanged files of a finished run of a few steps."""
    shutil.rmtree(trained)
    shutil.copytree(trained.with_name("copy"), trained)
    (run,) = (trained / "runs").iterdir()
    return run


def test_damaged_and_foreign_checkpoints(korlm: Command, run: Path) -> None:
    last = run / "checkpoints" / "last.pt"
    whole = last.read_bytes()
    write(last, whole[: len(whole) // 2])
    assert "last.pt: damaged" in korlm("train", f"resume={run}").error
    torch.save({"model": torch.zeros(1)}, last)
    assert "not a checkpoint of korlm" in korlm("train", f"resume={run}").error
    torch.save({"x": Path("x")}, last)
    assert "not a checkpoint of korlm" in korlm("train", f"resume={run}").error
    assert run.exists(), "a failed resume must not remove the run"


def test_resume_keeps_its_settings(korlm: Command, run: Path) -> None:
    assert "optimizer.lr=1" in korlm("train", f"resume={run}", "optimizer.lr=1").error


def test_resume_is_no_sweep(korlm: Command, run: Path) -> None:
    ended = korlm("train", "-m", f"resume={run}")
    assert ended.code == 1
    assert "remove -m" in ended.err


def test_prepared_that_does_not_fit(korlm: Command, run: Path) -> None:
    prepared = next(p for p in (run.parents[1] / "prepared").iterdir() if p.name[0] != ".")
    ended = korlm("train", f"prepared={prepared}", "vocab.min_freq=3", *LIGHT[1:])
    assert "vocab.min_freq=3" in ended.error
    manifest = prepared / "manifest.json"
    settings = json.loads(manifest.read_text("utf-8"))["settings"]
    settings["vocab"]["min_freq"] = 3
    new_checksums(manifest, settings=settings)
    error = korlm("train", f"prepared={prepared}", *LIGHT[1:]).error
    assert "fingerprint" in error and str(prepared) in error


def test_text_that_changed_under_a_run(korlm: Command, run: Path, tiny: TinyCorpus) -> None:
    before = tiny.train.read_text("utf-8")
    try:
        tiny.train.write_text(before + "새로운 줄이다.\n", "utf-8")
        # The prepared corpus still exists, with the ids that the run started with.
        assert korlm("train", f"resume={run}", "trainer.epochs=2").code == 0
        shutil.rmtree(run.parent.parent / "prepared")
        assert "fingerprint" in korlm("train", f"resume={run}", "trainer.epochs=3").error
    finally:
        tiny.train.write_text(before, "utf-8")


def test_full_disk(korlm: Command, tiny: TinyCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device", "shard.tmp")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    error = korlm("prepare", *tiny.overrides, "tokenizer=eojeol").error
    assert "disk is full" in error and "run the same command again" in error
    monkeypatch.undo()


def test_an_unexpected_failure_leaves_no_empty_run(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from korlm.training import session

    def fail(*args: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr(session, "build_session", fail)
    with pytest.raises(RuntimeError, match="ours"):
        korlm("train", *tiny.overrides, *LIGHT)
    assert not list(tmp_path.glob("outputs/runs/*"))


def test_a_failure_keeps_files_that_are_written(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from korlm.training import session

    def fail(settings: object, prepared: object, folder: Path, *others: object) -> None:
        (folder / "table.tsv").write_text("a\tb\n")
        raise ConfigError("not this way")

    monkeypatch.setattr(session, "build_session", fail)
    assert "not this way" in korlm("train", *tiny.overrides, *LIGHT).error
    assert len(list(tmp_path.glob("outputs/runs/*/table.tsv"))) == 1


def test_arguments_in_messages_are_as_typed() -> None:
    words, typed = ["run=b", "name='a b'"], ["from=b", "name=a b"]
    message = with_typed_arguments("run=best: no run; run=b, name='a b'", words, typed)
    assert message == "run=best: no run; from=b, name=a b"


def test_a_failed_job_of_a_sweep_is_reported_and_the_others_run(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    jobs = ["trainer.max_steps=2", "batches.batch_size=4,9999,5"]
    ended = korlm("train", "-m", *tiny.overrides, *LIGHT, *jobs)
    assert ended.code == 1
    assert "job batches.batch_size=9999 of the sweep failed" in ended.out
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/metrics.json"))) == 2


def test_damaged_ids(korlm: Command, run: Path) -> None:
    ids = next((run.parent.parent / "prepared").glob("*/ids/train-00000.npy"))
    array = np.load(ids)
    array[10] = 60_000
    np.save(ids, array)
    error = korlm("train", f"resume={run}").error
    assert "ids/train-00000.npy: damaged" in error and "checksum" in error


def test_one_process_a_run(korlm: Command, run: Path) -> None:
    with FileLock(run / "checkpoints" / ".lock"):
        error = korlm("train", f"resume={run}", "trainer.epochs=3").error
    assert str(run) in error and "another process" in error


def test_settings_without_effect(korlm: Command, tiny: TinyCorpus) -> None:
    words = [word for word in LIGHT if not word.startswith("model.hidden_dim")]
    overrides = ["model.hidden_dim=300", "model.hidden_dropout=0.1", "model.input_dropout=0.1"]
    ended = korlm("train", *tiny.overrides, *words, *overrides, "trainer.max_steps=2")
    assert ended.code == 0, ended.err
    assert "model.hidden_dim=300 has no effect: a single layer with model.tie_weights" in ended.out
    assert "model.hidden_dropout=0.1 has no effect" in ended.out
    assert ended.out.count("has no effect") == 2


def test_settings_without_effect_on_an_ngram_model(korlm: Command, tiny: TinyCorpus) -> None:
    words = [*tiny.overrides, "tokenizer=eojeol", "model=ngram", "model.order=2"]
    overrides = ["optimizer=adam", "optimizer.lr=0.1", "schedule=cosine", "trainer.clip_norm=2"]
    ended = korlm("train", *words, *overrides, "trainer.epochs=2", "resume_from=best")
    assert ended.code == 0, ended.err
    ignored = ", ".join(overrides)
    assert f"{ignored} have no effect: model=ngram is counted" in ended.out
    assert "resume_from=best has no effect" in ended.out
    assert ended.out.count("no effect") == 2


def test_the_folder_of_a_run_is_kept(korlm: Command, run: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    message = "already holds a run: resume="
    assert message in korlm("train", *LIGHT, f"hydra.run.dir={run}").error
    assert message in korlm("evaluate", f"run={run}", f"hydra.run.dir={run}").error
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_files_in_the_folder_of_a_failed_run_are_kept(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "thesis.txt", b"years of work")
    words = [*tiny.overrides, *LIGHT, "batches.batch_size=9999", "hydra.run.dir=mine"]
    assert "batches.batch_size=9999" in korlm("train", *words).error
    assert (tmp_path / "mine" / "thesis.txt").read_bytes() == b"years of work"


def test_no_advice_to_delete_foreign_files(korlm: Command, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    for content in (None, b"{}", b'{"fingerprint": 1}'):
        if content is not None:
            write(tmp_path / "home" / "manifest.json", content)
        error = korlm("train", "prepared=home").error
        assert "home" in error and "delete" not in error and "prepared" in error


def test_hints_name_the_key_that_was_typed(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    write(tmp_path / "file", b"")
    error = korlm("train", *tiny.overrides, *LIGHT, "hydra.run.dir=file/run").error
    assert "hydra.run.dir=FOLDER" in error and "outputs=" not in error


def test_an_evaluation_elsewhere(korlm: Command, run: Path, tmp_path: Path) -> None:
    """The run is named by its checkpoint, and nothing is written into its folder."""
    before = sorted(run.rglob("*"))
    named = f"run={run}/checkpoints/best.pt"
    elsewhere = ["output=my results", "adapt=false", "bootstrap.samples=100", "plot=false"]
    ended = korlm("evaluate", named, *elsewhere)
    assert ended.code == 0, ended.err
    assert (tmp_path / "my results" / "metrics.json").is_file()
    assert sorted(run.rglob("*")) == before
    assert "not empty" in korlm("evaluate", named, *elsewhere).error
    write(run / "evaluations", b"")
    assert "output=FOLDER" in korlm("evaluate", named, "adapt=false").error
    assert korlm("train", f"resume={run}/checkpoints", "trainer.epochs=1").code == 0


BROKEN = {
    "a: [\n": ("line 2", "not YAML"),
    "- a\n": ("experiment/mine.yaml", "# @package _global_"),
    "# @package _global_\na: 1\na: 2\n": ("line 3", "duplicate key"),
    "# @package _global_\nseed: ${oc.env:KORLM_NO}\n": ("seed", "KORLM_NO"),
    "# @package _global_\nseed: ${seed}\n": ("seed", "Recursive"),
    "# @package _global_\ndefaults: 3\n": ("experiment/mine", "must be a list"),
    "# @package _global_\ntrainer: null\n": ("trainer", "null", "experiment/mine.yaml"),
    "# @package _global_\ncorpus:\n  files: a.txt\n": ("corpus.files", "must be a list"),
    "# @package _global_\nmodel:\n  order: 3\n": ("model.order", "experiment/mine.yaml"),
    "# 한글\n": ("mine.yaml", "UTF-8"),
}


@pytest.mark.parametrize("text", BROKEN)
def test_broken_files_of_settings(korlm: Command, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    write(folder / "mine.yaml", text.encode("cp949"))
    error = korlm("train", "experiment=mine", "--config-dir", "conf").error
    assert all(word in error for word in BROKEN[text]), error
    assert "Traceback" not in error and not (tmp_path / "outputs").exists()
