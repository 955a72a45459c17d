"""Old names of settings."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Command

from korlm.config import keys, registry
from korlm.config.keys import rename_override, rename_tree
from korlm.config.stored import check_settings
from korlm.sweeps.folder import iter_jobs, with_stored_arguments


@pytest.mark.parametrize(
    ("old", "command", "new"),
    [
        ("trainer.valid_every=5", "train", "trainer.eval_every=5"),
        ("+model.k=0.5", "train", "+model.add_k=0.5"),
        ("~corpus.layout", "train", "~corpus.format"),
        ("complete=True", "generate", "mode=complete"),
        ("k=3", "generate", "num_completions=3"),
        ("k=3", "rescore", "k=3"),
        ("hydra.sweeper.prune_share=0.5", "train", "hydra.sweeper.prune_warmup_ratio=0.5"),
        ("schedule.patience=2", "train", "schedule.patience=2"),
        ("prompt=k=3", "generate", "prompt=k=3"),
        ("--config-dir", "train", "--config-dir"),
    ],
)
def test_overrides(old: str, command: str, new: str) -> None:
    assert rename_override(old, command) == new


def test_trees() -> None:
    params = {"model.dropout_input": "interval(0, 1)", "seed": "1,2"}
    old = {"trainer": {"valid_every": 5, "epochs": 1}, "hydra": {"sweeper": {"params": params}}}
    new = {"model.input_dropout": "interval(0, 1)", "seed": "1,2"}
    assert rename_tree(old) == {
        "trainer": {"eval_every": 5, "epochs": 1},
        "hydra": {"sweeper": {"params": new}},
    }
    assert rename_tree({"spelling": "both"}, prefix="model.") == {"subword_embedding": "both"}
    assert rename_tree({"complete": True}, "generate") == {"mode": "complete"}


def test_stored_settings_are_accepted_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    old = {"model": {"name": "lstm", "variational": True}, "vocab": {"lower": True}}
    new = {"model": {"name": "lstm", "variational_dropout": True}, "vocab": {"lowercase": True}}
    assert check_settings(old, "a.json") == new
    assert capsys.readouterr().err == ""


def test_stored_sweeps_are_accepted_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = {
        "task": ["trainer.valid_every=5", "model.k=1,2"],
        "hydra": ["hydra.sweeper.prune_share=0.5"],
    }
    job = tmp_path / "model.k=1" / ".hydra" / "overrides.yaml"
    job.parent.mkdir(parents=True)
    job.write_text(yaml.safe_dump(["trainer.valid_every=5", "model.k=1"]))
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": {"overrides": overrides}}))
    assert with_stored_arguments(["-m", f"resume={tmp_path}"])[2:] == [
        "trainer.eval_every=5",
        "model.add_k=1,2",
        "hydra.sweeper.prune_warmup_ratio=0.5",
    ]
    assert dict(iter_jobs(tmp_path)) == {
        tmp_path / "model.k=1": {"trainer.eval_every": "5", "model.add_k": "1"}
    }
    assert capsys.readouterr().err == ""


def test_every_old_name_is_unused() -> None:
    for command in registry.schemas(""):
        table: dict[str, Any] = keys._renamed(command)
        assert not table.keys() & {new for new, _ in table.values()}


def test_one_line_for_each_old_name(
    korlm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_warned", set())
    mine = tmp_path / "mine" / "experiment" / "old.yaml"
    mine.parent.mkdir(parents=True)
    settings = {"trainer": {"patience": 7}, "model": {"spelling": "input"}}
    mine.write_text("# @package _global_\n" + yaml.safe_dump(settings))
    group = tmp_path / "mine" / "schedule" / "old.yaml"
    group.parent.mkdir()
    group.write_text("defaults: [cosine_schema, _self_]\nname: cosine\nwarmup_share: 0.125\n")
    overrides = ("experiment=old", "schedule=old", "trainer.valid_every=5")
    ended = korlm("train", "--config-dir", "mine", "--cfg", "job", *overrides)
    assert ended.code == 0, ended.err
    for line in (
        "early_stopping_patience: 7",
        "subword_embedding: input",
        "warmup_ratio: 0.125",
        "eval_every: 5",
    ):
        assert f"  {line}\n" in ended.out
    for old, new in (
        ("trainer.patience", "trainer.early_stopping_patience"),
        ("model.spelling", "model.subword_embedding"),
        ("schedule.warmup_share", "schedule.warmup_ratio"),
        ("trainer.valid_every", "trainer.eval_every"),
    ):
        line = f"{old} is now {new}; the old name works until korlm {keys.REMOVED_IN}\n"
        assert ended.err.count(line) == 1
