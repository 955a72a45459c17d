"""Paths reach the settings unchanged; ~ is the home folder everywhere."""

import random
from pathlib import Path
from typing import Any

import pytest
from conftest import COMMANDS, Command, TinyCorpus
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import korlm
from korlm.cli.arguments import to_hydra_grammar
from korlm.config.keys import iter_keys, path_keys
from korlm.config.paths import expand_home, path_value, run_directory
from korlm.config.validation import setting_of
from korlm.utils.errors import ConfigError, KorlmError


def parsed(word: str) -> Any:
    value = OverridesParser.create().parse_override(word).value()
    return OmegaConf.to_container(OmegaConf.create({"value": value}))["value"]


def test_paths_are_unchanged() -> None:
    rng = random.Random(1)
    letters = "ab1가 \\'\",;:=()[]{}#!&|<>*?%@^~-+._\t"
    for _ in range(2000):
        path = "/" + "".join(rng.choices(letters, k=rng.randrange(9))).strip()
        assert parsed(f"outputs={path_value(path, 'outputs')}") == path
        assert parsed(f"corpus.files={path_value(path, 'corpus.files', True)}") == [path]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("a.txt", ["a.txt"]),
        ("a, b.txt", ["a, b.txt"]),
        ("[a.txt, b c.txt]", ["a.txt", "b c.txt"]),
        ("['a, b.txt',\"it's\",글.txt]", ["a, b.txt", "it's", "글.txt"]),
        ("'~/x'", ["HOME/x"]),
        ("[~/x,~]", ["HOME/x", "HOME"]),
        ("[ab]*.txt", ["[ab]*.txt"]),
        ("1_000", ["1_000"]),
        ("[true,12,'null']", ["true", "12", "null"]),
        ("[]", []),
        ("null", None),
    ],
)
def test_lists_of_paths(monkeypatch: pytest.MonkeyPatch, value: str, meant: list[str]) -> None:
    monkeypatch.setenv("HOME", "HOME")
    assert parsed(f"corpus.files={path_value(value, 'corpus.files', True)}") == meant


@pytest.mark.parametrize("word", ["corpus.files=[a.txt,b*.txt]", "outputs=a/b", "resume=a-1.b"])
def test_plain_paths_stay_as_typed(word: str) -> None:
    """The overrides as typed identify the jobs of a sweep."""
    assert to_hydra_grammar([word], paths=path_keys("train")) == [word]


def test_a_comma_separates_jobs_of_a_sweep() -> None:
    """Unless it is in quotes or brackets, or names the folder of the sweep itself."""
    overrides = [
        *("-m", "prepared=a,b c", "prepared='a,b'", "corpus.files=[a,b],[c]", "outputs=a,b"),
        *("prepared=choice(a,b)", "seed=1,2"),
    ]
    assert to_hydra_grammar(overrides, paths=path_keys("train")) == [
        *("-m", "prepared=a,'b c'", "prepared='a,b'", "corpus.files=[a,b],[c]", "outputs='a,b'"),
        *("prepared=choice(a,b)", "seed=1,2"),
    ]
    assert to_hydra_grammar(["prepared=a,b"], paths=path_keys("train")) == ["prepared='a,b'"]


@pytest.mark.parametrize("value", ["", "''", " ", "[a,,b]", "[a,]", "~no-user-of-this-name/x"])
def test_no_path(value: str) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.files="):
        path_value(value, "corpus.files", True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_that_names_a_file_is_marked(command: str) -> None:
    """Settings with the name of a file or folder must be marked, new ones included."""
    names = {"run", "runs", "outputs", "output", "prepared", "resume", "files", "ngram", "mix"}
    names |= {"path", "input", "nbest", "tune", "reference", "scores", "arpa", "prompts"}
    names |= {"file", "user_dictionary"}
    keys = {key for key, _ in iter_keys(command) if key.split(".")[-1] in names}
    assert keys <= set(path_keys(command))


def test_home_in_files_of_settings(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ncorpus:\n  valid: ['~/none.txt']\noutputs: ~/out\n", "utf-8"
    )
    mine = ["--config-dir", "conf", "corpus=text", f"corpus.train={tiny.train}", "experiment=mine"]
    assert f"{tmp_path}/home/none.txt is neither" in korlm("train", *mine).error
    words = [*tiny.overrides, "tokenizer=eojeol"]
    assert korlm("prepare", *words, "outputs='~/out'").code == 0
    assert len(list(tmp_path.glob("home/out/prepared/text-eojeol-*"))) == 1
    assert not (tmp_path / "~").exists()


def test_home_in_folders_of_hydra(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n  run:\n    dir: ~/one\n  sweep:\n    dir: ~/many\n"
        f"prepared: ~/none\ncorpus:\n  train: ['~/a', {tiny.train}]\n",
        "utf-8",
    )
    mine = ["--config-dir", "conf", "experiment=mine", "--cfg", "all"]
    printed = korlm("train", *mine).out
    for line in ("dir: HOME/one", "dir: HOME/many", "prepared: HOME/none", "- HOME/a"):
        assert line.replace("HOME", f"{tmp_path}/home") in printed
    assert not (tmp_path / "outputs").exists()
    words = [*tiny.overrides, "tokenizer=eojeol", "model=ngram", "model.order=2", "prepared=null"]
    ended = korlm("train", *mine[:3], *words)
    assert ended.code == 0, ended.err
    assert (tmp_path / "home" / "one" / "metrics.json").is_file()
    assert not (tmp_path / "~").exists() and not (tmp_path / "outputs" / "runs").exists()


def test_a_path_is_one_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("checkpoints/best.pt", "export/model.safetensors", "export/step.onnx"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).touch()
    for name in ("checkpoints", "checkpoints/best.pt", "."):
        assert run_directory(run / name) == run
    for name in ("model.safetensors", "step.onnx", "."):
        assert run_directory(run / "export" / name) == run / "export"
    assert run_directory(tmp_path / "none.pt") == tmp_path / "none.pt"


def test_a_path_that_cannot_be_looked_up_is_one_line() -> None:
    for name in ("a" * 300, "a/" * 3000):  # longer than file systems allow
        with pytest.raises(KorlmError) as error:
            korlm.load(name)
        assert str(error.value).startswith("a") and "\n" not in str(error.value)


def test_unknown_home() -> None:
    assert expand_home("a~b", "outputs") == "a~b"
    with pytest.raises(ConfigError, match=r"~no-one: there is no home folder ~no-one"):
        expand_home("~no-one", "outputs")


def test_paths_are_strings() -> None:
    for command in COMMANDS:
        for _, field in iter_keys(command):
            if setting_of(field).is_path:
                assert "str" in str(field.type) or field.type == "Any"
