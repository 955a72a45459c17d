"""Exports: a bit-exact round trip, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import flip_bit, new_checksums
from safetensors.torch import load_file, save_file
from tiny_runs import finish, make_settings, prepare_tiny

import korlm
from korlm.config import LSTMConfig, NgramConfig, SubwordMode
from korlm.runs.checkpoint import load_checkpoint
from korlm.runs.safetensors import load_weights, save_config, save_weights
from korlm.utils.errors import CheckpointError, KorlmError

MODELS = {
    "tied": LSTMConfig(
        name="lstm", embedding_dim=8, hidden_dim=6, subword_embedding=SubwordMode.both
    ),
    "untied": LSTMConfig(name="lstm", embedding_dim=8, hidden_dim=6, tie_weights=False),
    "ngram": NgramConfig(name="ngram", order=3),
}


@pytest.fixture(scope="module", params=MODELS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    prepared = prepare_tiny(folder)
    settings = make_settings(prepared, {"epochs": 1}, model=MODELS[request.param])
    finish(settings, prepared, folder / "run")
    return folder / "run"


@pytest.fixture
def export(run: Path, tmp_path: Path) -> Path:
    checkpoint = load_checkpoint(run / "checkpoints" / "best.pt")
    save_weights(tmp_path, checkpoint)
    save_config(tmp_path, checkpoint, 3)
    return tmp_path


def test_round_trip(run: Path, export: Path) -> None:
    before = load_checkpoint(run / "checkpoints" / "best.pt")
    after = load_weights(export)
    for key in ("config", "vocab", "fingerprint", "prepared"):
        assert after[key] == before[key]
    for key in ("model", "spelling"):
        assert after[key].keys() == before[key].keys()
        for name, tensor in before[key].items():
            assert after[key][name].dtype == tensor.dtype
            assert torch.equal(after[key][name], tensor)


def test_it_opens_as_a_run(run: Path, export: Path) -> None:
    one, other = korlm.load(run), korlm.load(export)
    assert other.folder == export
    assert one.settings == other.settings and one.start_id == other.start_id
    words = ["가나다", "봄"]
    assert one.spelling.nats(words).tolist() == other.spelling.nats(words).tolist()
    ids = torch.tensor([[4, 5, 1, 3]])
    assert torch.equal(one.model.log_probs(ids)[0], other.model.log_probs(ids)[0])


def test_a_tied_matrix_is_stored_once(run: Path, export: Path) -> None:
    stored, model = load_file(export / "model.safetensors"), korlm.load(run).model.state_dict()
    twice = {"output.weight"} if run.parent.name.startswith("tied") else set()
    assert stored.keys() == model.keys() - twice


def test_config_in_plain_json(export: Path) -> None:
    config = json.loads((export / "config.json").read_text("utf-8"))
    assert config["format"] == 2 and config["korlm"] == korlm.__version__
    assert config["tokenizer"] == "syllable" and config["start_id"] == 3
    assert config["special_ids"] == {"<pad>": 0, "<unk>": 1, "<bos>": 2, "<eos>": 3}
    lines = (export / "vocab.tsv").read_text("utf-8").splitlines()
    assert config["vocab_size"] == len(lines)


def test_file_modes(export: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in export.iterdir()}
    assert len(modes) == 1


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def settings_in(path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(path.read_text("utf-8"))["settings"]
    return settings


def change_model(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"output.weight": "embedding.weight"})
    new_checksums(path.with_name("config.json"))


def cut_on_purpose(path: Path) -> None:
    cut(path)
    new_checksums(path.with_name("config.json"))


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut weights": ("model.safetensors", cut, "damaged or missing"),
    "cut spelling": ("spelling.safetensors", cut, "damaged or missing"),
    "cut config": ("config.json", cut, "damaged or missing"),
    "cut vocabulary": ("vocab.tsv", cut, "damaged or missing"),
    "another vocabulary": ("vocab.tsv", cut_on_purpose, "does not match its own settings"),
    "no spelling": ("spelling.safetensors", Path.unlink, "damaged or missing"),
    "no config": ("config.json", Path.unlink, "damaged or missing"),
    "no vocabulary": ("vocab.tsv", Path.unlink, "damaged or missing"),
    "a pickle": ("model.safetensors", lambda p: torch.save({}, p), "damaged or missing"),
    "a text": ("model.safetensors", lambda p: p.write_text("weights"), "damaged or missing"),
    "a list": ("config.json", lambda p: p.write_text("[]"), "damaged or missing"),
    "deep": ("config.json", lambda p: p.write_text("[" * 100_000), "damaged or missing"),
    "a later format": ("config.json", lambda p: new_checksums(p, format=3), "export format 3"),
    "an earlier format": (
        "config.json",
        lambda p: new_checksums(p, format=1),
        "export the run again",
    ),
    "interpolation": (
        "config.json",
        lambda p: new_checksums(p, settings={**settings_in(p), "name": "${oc.env:HOME}"}),
        "name=${oc.env:HOME}: a stored setting must be a plain value",
    ),
    "a changed value": (
        "config.json",
        lambda p: p.write_text(p.read_text("utf-8").replace('"seed": 1', '"seed": 3'), "utf-8"),
        "its checksum does not match",
    ),
    "no settings": (
        "config.json",
        lambda p: new_checksums(p, settings={}),
        "damaged or missing",
    ),
    "a wrong shape": (
        "model.safetensors",
        lambda p: change_model(p, lambda t: t.update({"output.bias": torch.zeros(3)})),
        "does not match its own settings",
    ),
    "a weight too few": (
        "model.safetensors",
        lambda p: change_model(p, lambda t: [t.pop("output.bias")]),
        "does not match its own settings",
    ),
    "a shared weight that is missing": (
        "model.safetensors",
        lambda p: change_model(p, lambda t: [t.pop("embedding.weight")]),
        "damaged or missing (it has no 'embedding.weight')",
    ),
}


@pytest.mark.parametrize("run", ["tied"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(export: Path, damage: str) -> None:
    name, spoil, words = DAMAGES[damage]
    spoil(export / name)
    with pytest.raises(KorlmError) as caught:
        korlm.load(export)
    assert isinstance(caught.value, CheckpointError)
    message = str(caught.value)
    assert words in message and len(message.splitlines()) == 1
    is_mismatch = "match its own" in words  # of two files: the message names the weights
    assert str(export / ("model.safetensors" if is_mismatch else name)) in message


@pytest.mark.parametrize("run", ["tied"], indirect=True)
@pytest.mark.parametrize(
    "name", ["config.json", "vocab.tsv", "model.safetensors", "spelling.safetensors"]
)
def test_a_flipped_bit_is_detected(export: Path, name: str) -> None:
    path = export / name
    whole = path.read_bytes()
    for position in (0.0, 0.2, 0.4, 0.6, 0.8, 0.99):
        flip_bit(path, position)
        with pytest.raises(CheckpointError, match=r"damaged or missing|export format") as caught:
            korlm.load(export)
        assert len(str(caught.value).splitlines()) == 1
        path.write_bytes(whole)
    korlm.load(export)
