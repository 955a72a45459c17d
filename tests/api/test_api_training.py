"""Training in Python: settings and messages of the command, and no trace of Hydra."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, Command, TinyCorpus
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from omegaconf.basecontainer import BaseContainer

import korlm
from korlm.api.runs import LanguageModelRun, TaskModelRun
from korlm.cli.compose import compose, merge, overrides_of
from korlm.runs.directories import is_finished
from korlm.utils.errors import ConfigError, CorpusError, KorlmError

FAST = {
    "tokenizer": "syllable",
    "model": {"name": "lstm", "embedding_dim": 8, "hidden_dim": 8},
    "batches": {"batch_size": 4, "bptt_length": 8},
    "trainer": {"max_steps": 3, "threads": 1, "device": "cpu", "precision": "fp32"},
    "trainer.sample_tokens": 0,
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def splits(tiny: TinyCorpus) -> dict[str, object]:
    names = ("train", "valid", "test")
    return {"corpus": {"name": "text", **{name: [getattr(tiny, name)] for name in names}}}


def test_it_trains_what_the_command_trains(
    korlm: Command, tiny: TinyCorpus, splits: dict[str, object]
) -> None:
    from korlm import train

    run = train(FAST, **splits, seed=3, name="python")  # type: ignore[arg-type]
    assert isinstance(run, LanguageModelRun)
    assert run.folder.parent == Path("outputs/runs") and run.folder.name.endswith("_python")
    assert (run.folder / "train.log").read_text("utf-8").count("training a lstm") == 1
    overrides = overrides_of("train", FAST)
    ended = korlm("train", *tiny.overrides, *overrides, "seed=3", "hydra.run.dir=command")
    assert ended.code == 0, ended.err
    expected = torch.load("command/checkpoints/best.pt", weights_only=True)["model"]
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert korlm("report", f"runs=[{run.folder}]").code == 0
    with pytest.raises(ConfigError, match="gradual_unfreezing=true: a resumed run keeps it"):
        train(resume=run.folder, **{"trainer.gradual_unfreezing": True})
    resumed = train(resume=run.folder, **{"trainer.max_steps": 5})
    assert resumed.folder == run.folder and is_finished(run.folder)
    assert json.loads((run.folder / "training.json").read_text("utf-8"))["steps"] == 5


def test_nothing_of_hydra_is_left(splits: dict[str, object]) -> None:
    log = logging.getLogger("korlm")
    Plugins.instance()

    def state() -> tuple[object, ...]:
        return (
            dict(Singleton._instances),
            dict(BaseContainer._resolvers),
            dict(ConfigStore.instance().repo),
            dict(Plugins.instance().class_name_to_class),
            dict(SourcesRegistry.instance().types),
            torch.get_num_threads(),
            log.level,
            list(log.handlers),
        )

    before = state()
    korlm.train(FAST, **splits)  # type: ignore[arg-type]
    assert state() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modl": "lstm"}, "modl: there is no such setting; did you mean model?"),
        ({"model": "lstmm"}, "model=lstmm: must be one of gru, lstm, "),
        ({"trainer": {"epochs": 0}}, "trainer.epochs=0: must be in [1, 1000000]"),
        ({"trainer.epochs": "many"}, "trainer.epochs=many: the value could not be converted"),
        ({"seed": object}, "seed=<class 'object'>: must be a number, a str"),
        ({"resume": "nowhere"}, "resume=nowhere: no such directory"),
        ({"name": "a/b"}, "name=a/b: must consist of letters"),
        ({"corpus": 5}, "corpus=5: give a name, a file, a list of files, or a dict"),
        ({"corpus": ["a"], "corpus.files": ["b"]}, "corpus.files: given twice, once in a dict"),
        ({"trainer.epochs": 1, "trainer": {"epochs": 2}}, "trainer.epochs: given twice, once in"),
        (
            {"corpus.layout": "txt", "corpus.format": "json"},
            "corpus.format: given twice, also under an old name",
        ),
        ({"corpus": "a.txt"}, "corpus='a.txt': a str is the name of a choice; give files as"),
        ({"corpus": "texts/a.txt"}, "corpus='texts/a.txt': a str is the name of a choice; give"),
        ({"seed": np.array([1, 2])}, "seed=array([1, 2]): must be a number, a str"),
        ({3: 4}, "3: the names of settings are strings"),
        ([("seed", 1)], "settings=[('seed', 1)]: must be a dict"),
        ({"seed": {"a": 1}}, "seed.a=1: the value could not be converted"),
        ({"trainer": {"epochs": {"a": 1}}}, "trainer.epochs"),
        ({"prepare": {"options": {"a:b": 1}}}, "prepare.options: 'a:b' is not a name of letters"),
        ({"imports": 3}, "imports=3: must be a list of names of modules"),
        ({"imports": ["nowhere"]}, "imports=[nowhere]: there is no such module"),
    ],
)
def test_messages_are_those_of_the_command(settings: Any, message: str) -> None:
    with pytest.raises(KorlmError) as caught:
        korlm.train(settings)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1
    assert not Path("outputs").exists()


def test_names_of_the_package() -> None:
    assert {"Kkma", "KorlmError", "load", "register", "train"} <= set(dir(korlm))
    assert korlm.KorlmError is KorlmError


def test_a_refused_run_leaves_no_directory() -> None:
    Path("empty.txt").write_text("", encoding="utf-8")
    with pytest.raises(CorpusError):
        korlm.train(FAST, corpus=["empty.txt"])
    assert not list(Path("outputs").glob("runs/*"))


@pytest.mark.parametrize("corpus", [Path("a b.txt"), ["a b.txt"], (Path("a b.txt"),)])
def test_files_as_the_corpus(corpus: object) -> None:
    settings = compose("train", {"corpus": corpus}).settings
    assert settings.corpus.name == "text" and settings.corpus.files == ["a b.txt"]


def test_a_new_run_does_not_read_a_manifest_in_the_working_directory(
    splits: dict[str, object],
) -> None:
    Path("manifest.json").write_text("{}", encoding="utf-8")
    assert is_finished(korlm.train(FAST, **splits).folder)  # type: ignore[arg-type]


def test_keywords_take_precedence() -> None:
    Path("a b.txt").write_text("나는 간다.\n" * 40, encoding="utf-8")
    run = korlm.train({**FAST, "corpus": "konlpy"}, corpus=Path("a b.txt"))
    assert run.settings.corpus.files == ["a b.txt"]


def test_keywords_in_groups_take_precedence() -> None:
    trainer = merge({"trainer": {"epochs": 1, "threads": 2}}, {"trainer": {"epochs": 3}})
    assert trainer == {"trainer.epochs": 3, "trainer.threads": 2}
    model = merge({"seed": 1, "model": {"name": "lstm", "hidden_dim": 8}}, {"model": "ngram"})
    assert model == {"seed": 1, "model": "ngram"}


def test_values_are_quoted_as_hydra_needs_it() -> None:
    names = ["가 나, 다's.txt", "${a}.txt", "null", "1e5"]
    settings = compose("train", {"corpus": "text", "corpus.files": names}).settings
    assert settings.corpus.files == names
    settings = compose("train", {"model.embedding_dim": 1e1 and 7, "name": "실험-1"}).settings
    assert settings.model.embedding_dim == 7 and settings.name == "실험-1"
    assert overrides_of("train", {"init": Path("a")}) == ["init=[a]"]
    expected = ["run=['a b']", "prepared=null"]
    assert overrides_of("evaluate", {"run": "a b", "prepared": None}) == expected


@pytest.mark.parametrize("in_group", [True, False])
def test_options_of_a_cluster_are_a_dict(in_group: bool) -> None:
    options = {"queue": "q", "extra": ["--a", "b c"], "env": {"a/b.c": "null", "n": None}}
    cluster = {"cluster": "slurm", "workers": 2, "options": options}
    keys = {f"prepare.{key}": value for key, value in cluster.items()}
    given = merge({}, {"prepare": cluster} if in_group else keys)
    assert compose("train", given).settings.prepare.options == options


def test_settings_without_effect_are_reported(
    splits: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    korlm.train(FAST, **splits, model="ngram", **{"optimizer.lr": 0.5})  # type: ignore[arg-type]
    assert any("optimizer.lr=0.5" in message for message in caplog.messages)


def test_a_task(tiny: TinyCorpus) -> None:
    labels = Path("labels.tsv")
    rows = [f"{line}\t{n % 2}" for n, line in enumerate(tiny.train.read_text("utf-8").splitlines())]
    labels.write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    corpus = {"name": "tsv", "files": [labels], "label_column": "label"}
    run = korlm.train(FAST, corpus=corpus, task="classification", model="lstm")
    assert isinstance(run, TaskModelRun)
    assert {row["label"] for row in run.predict(["나는 잔다.", "너는 간다."])} <= {"0", "1"}
    assert set(run.evaluate()) <= {"valid", "test"}


def test_threads_train_one_after_the_other(splits: dict[str, object]) -> None:
    runs: list[LanguageModelRun] = []
    threads = [
        threading.Thread(target=lambda: runs.append(korlm.train(FAST, **splits)))  # type: ignore
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (run.model.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_one_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(ConfigError, match="one process"):
        korlm.train(FAST)


def test_the_module_of_the_command_does_not_hide_the_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "korlm.train", raising=False)
    monkeypatch.delitem(vars(korlm), "train", raising=False)
    before = korlm.train
    module = importlib.import_module("korlm.train")
    assert korlm.train is module
    for train in (before, module):
        with pytest.raises(ConfigError, match="model=x: must be one of"):
            train(model="x")


def test_progress_is_shown_in_a_notebook(tmp_path: Path) -> None:
    """Without ipywidgets, as text; a kernel has no terminal."""
    code = (
        "import sys, types, warnings\n"
        "sys.modules['ipykernel'] = types.ModuleType('ipykernel')\n"
        "warnings.simplefilter('ignore')\n"
        "from korlm.utils.progress import ProgressBar\n"
        "with ProgressBar(desc='training', total=4, unit='step') as bar:\n"
        "    bar.update(4)\n"
        "with ProgressBar(desc='hidden', total=4, shown=False) as bar:\n"
        "    bar.update(4)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert "training: 100%" in done.stderr and "hidden" not in done.stderr
