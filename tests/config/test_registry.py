"""Registered choices, their modules, and stored settings that name unregistered choices."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

import korlm
from korlm.cli.arguments import typed_imports
from korlm.config import LSTMConfig, ModelConfig, NeuralConfig, registry
from korlm.config.keys import choices, conf_dir
from korlm.config.stored import check_override, check_settings
from korlm.utils.errors import CheckpointError, ConfigError


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo registrations and imports after each test."""
    known = {group: registry.entries(group) for group in registry.groups()}
    monkeypatch.setattr(registry, "_entries", known)
    monkeypatch.setattr(registry, "_imported", {})


def test_a_choice_is_named_once() -> None:
    assert registry.names_of("model", LSTMConfig) == ["lstm"]
    assert sorted(registry.names_of("optimizer", registry.schemas("optimizer")["adam"])) == [
        *("adam", "adamw"),
    ]
    assert korlm.register("model", "lstm", builds="x:y")(LSTMConfig) is LSTMConfig  # a reload
    with pytest.raises(ConfigError, match=r"model=lstm is registered by .*LSTMConfig"):
        korlm.register("model", "lstm", builds="x:y")(NeuralConfig)


def test_a_name_belongs_to_its_class() -> None:
    @dataclasses.dataclass
    class OwnConfig(ModelConfig):
        size: int = 3

    with pytest.raises(ConfigError, match="must be registered for OwnConfig"):
        OwnConfig(name="own")
    korlm.register("model", "own")(OwnConfig)
    assert OwnConfig(name="own").min_parameters(5) == 0
    with pytest.raises(ConfigError, match="name=own: must be lstm"):
        LSTMConfig(name="own")


@pytest.mark.parametrize("group", registry.NAMED)
def test_registrations_of_korlm(group: str) -> None:
    registered = registry.entries(group)
    assert set(registered) == set(choices(group))
    for entry in registered.values():
        for path in filter(None, (entry.builds, entry.detokenizer)):
            assert callable(registry.load(path))


@pytest.mark.parametrize("path", ["no_such_module:a", "korlm.config:Missing", "korlm.config", ":a"])
def test_what_cannot_be_built(path: str) -> None:
    with pytest.raises(ConfigError, match="registered, but cannot be imported"):
        registry.load(path)


def test_conf_folders_of_imported_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("korlm_with_conf", "korlm_without"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    model = tmp_path / "korlm_with_conf" / "conf" / "model"
    model.mkdir(parents=True)
    (model / "own.yaml").touch()
    registry.import_modules(["korlm_with_conf", "korlm_without", "json"])
    assert registry.conf_dirs() == [model.parent]
    assert registry.imported() == ["korlm_with_conf", "korlm_without", "json"]
    korlms = {path.stem for path in (conf_dir() / "model").glob("*.yaml")}
    assert set(choices("model")) == korlms | {"own"}


def test_words_of_imports() -> None:
    assert typed_imports(["imports=a", "+imports=['b.c', \"d\"]", "seed=1"]) == ["a", "b.c", "d"]
    for wrong in ("imports=a/b", "imports=[a..b]", "imports=1"):
        with pytest.raises(ConfigError, match="must be names of Python modules"):
            typed_imports([wrong])


@pytest.mark.parametrize(
    ("imports", "advice"),
    [
        (["my_lm", "b"], "imports=[my_lm,b]"),
        (["os\nsystem"], "imports=[os system]"),
        ([], "imports=[MODULE]"),
        ("my_lm", "imports=[MODULE]"),
    ],
)
def test_files_name_modules_but_import_none(imports: object, advice: str) -> None:
    for group, name in (("model", "bag"), ("tokenizer", 3), ("optimizer", ["sgd"])):
        tree = {"imports": imports, group: {"name": name, "unheard_of": 1}}
        with pytest.raises(CheckpointError) as caught:
            check_settings(tree, "best.pt", CheckpointError)
        assert str(caught.value).startswith(f"best.pt: {group}=")
        assert f"is not registered: add {advice} (in Python" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="are imported if they are typed"):
        check_override("imports=[my_lm]", "multirun.yaml")
