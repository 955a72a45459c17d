"""Every file under conf/ composes, and every choice passes its own checks."""

import dataclasses
from pathlib import Path

import pytest
from conftest import COMMANDS, ROOT
from hydra import compose, initialize_config_dir

from korlm import config
from korlm.cli.output_dirs import register_resolvers
from korlm.config import registry
from korlm.config.keys import conf_dir
from korlm.config.serialization import plain_settings, settings_from_plain, to_settings

CONF = ROOT / "conf"
CHOICES = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem)
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and "hydra" not in path.parts
)
NEEDS = {("corpus", "nsmc"): ["corpus.path=folder"]}
OWN_TEXT = {
    *(("corpus", name) for name in ("text", "tsv")),
    *(("experiment", name) for name in ("sentiment", "pos", "ner")),
}


@pytest.fixture(autouse=True)
def registered() -> None:
    config.store_schemas()
    register_resolvers()


def settings(command: str, *overrides: str) -> object:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_settings(compose(command, list(overrides)))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_is_valid(group: str, choice: str) -> None:
    overrides = [f"{'+' * (group == 'experiment')}{group}={choice}".removeprefix("+")]
    overrides += NEEDS.get((group, choice), [])
    if (group, choice) in OWN_TEXT:
        overrides.append("corpus.files=[a.txt]")
    assert isinstance(settings("train", *overrides), config.TrainSettings)


@pytest.mark.parametrize(
    "command",
    [(name, *needed) for name, needed in COMMANDS.items()],
    ids=lambda command: command[0],
)
def test_the_defaults_are_valid(command: tuple[str, ...]) -> None:
    assert dataclasses.is_dataclass(settings(*command))


def test_siblings_have_the_same_keys_for_the_same_things() -> None:
    for group in ("model", "optimizer", "schedule"):
        # N-gram models share only the name with the settings of networks.
        schemas = [s for s in registry.schemas(group).values() if s is not config.NgramConfig]
        shared = set.intersection(*({f.name for f in dataclasses.fields(s)} for s in schemas))
        assert "name" in shared
        assert len(shared) >= 3


@pytest.mark.parametrize(
    "choices",
    [
        ("model=lstm", "optimizer=adamw", "schedule=one_cycle"),
        ("model=gru", "optimizer=muon", "schedule=plateau"),
        ("model=rnn", "optimizer=sgd", "schedule=constant"),
        ("model=window", "optimizer=adagrad"),
        ("model=ngram",),
    ],
)
def test_settings_survive_a_checkpoint(choices: tuple[str, ...]) -> None:
    others = ("corpus=nsmc", "corpus.path=x", "seed=7", "trainer.clip_norm=null")
    before = settings("train", *choices, *others)
    assert isinstance(before, config.TrainSettings)
    plain = plain_settings(before)
    assert settings_from_plain(plain) == before
    after = settings_from_plain(plain, ["trainer.epochs=99"])
    assert after.trainer.epochs == 99
    for typed, folder in (('"it\'s"', "it's"), ("@data", "@data"), ("1:30", "1:30"), ("on", "on")):
        assert settings_from_plain(plain, [f"outputs={typed}"]).outputs == folder


def test_checkpoints_without_cluster_settings() -> None:
    before = settings("train", "corpus=nsmc", "corpus.path=x")
    assert isinstance(before, config.TrainSettings)
    plain = plain_settings(before)
    del plain["prepare"]
    assert settings_from_plain(plain) == before
    overrides = ["prepare.cluster=local", "prepare.workers=2"]
    assert settings_from_plain(plain, overrides).prepare.workers == 2


def test_options_of_a_cluster_are_not_a_setting_of_the_run() -> None:
    cluster = ["prepare.cluster=slurm", "prepare.workers=2"]
    options = 'prepare.options={queue: q, env: {a.b: "1:00"}}'
    before = settings("train", "corpus=nsmc", "corpus.path=x", *cluster, options)
    assert isinstance(before, config.TrainSettings)
    assert before.prepare.options == {"queue": "q", "env": {"a.b": "1:00"}}
    after = settings_from_plain(plain_settings(before))
    assert after.prepare == dataclasses.replace(before.prepare, options=None)
    resumed = settings_from_plain(plain_settings(before), [*cluster, options])
    assert resumed.prepare == before.prepare


def test_conf_is_found_in_a_checkout_and_in_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert conf_dir() == CONF
    package = tmp_path / "site-packages" / "korlm"
    (package / "conf").mkdir(parents=True)
    (tmp_path / "site-packages" / "conf").mkdir()  # of another package
    monkeypatch.setattr("korlm.config.keys.__file__", str(package / "config" / "keys.py"))
    assert conf_dir() == package / "conf"
