"""korlm.load: a run directory in Python."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import finish, make_settings, prepare_tiny

import korlm
from korlm.cli.output_dirs import register_resolvers
from korlm.config import SentencePieceConfig
from korlm.dataset.prepared import open_prepared
from korlm.dataset.text_encoder import read_prepared
from korlm.runs.checkpoint import load_checkpoint, save_checkpoint
from korlm.utils.errors import CheckpointError


def test_the_encoder_of_a_run_reproduces_its_ids(tiny_run: Callable[[str], Any]) -> None:
    run = korlm.load(str(tiny_run("lstm").folder))
    prepared = open_prepared(run.prepared)
    assert run.vocab.tokens == prepared.vocab.tokens
    assert not run.model.training
    (shard,) = read_prepared(prepared.folder, "valid", run.vocab, run.spelling)
    with run.text_encoder() as text_encoder:
        encoded = text_encoder.read_texts(shard.table["text"].to_pylist())
    assert encoded.ids.tolist() == prepared.ids("valid").tolist()
    assert encoded.spelling_nats.sum() == pytest.approx(prepared.stats["valid"].spelling_nats)


def test_a_trained_tokenizer_is_saved_with_the_run(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    tokenizer = SentencePieceConfig(name="sentencepiece", vocab_size=40)
    prepared = prepare_tiny(tmp_path, tokenizer=tokenizer)
    finish(make_settings(prepared, {"epochs": 1}), prepared, tmp_path / "run")
    expected = prepared.ids("valid").tolist()
    (shard,) = read_prepared(prepared.folder, "valid", prepared.vocab, prepared.spelling)
    shutil.rmtree(prepared.folder)
    run = korlm.load(tmp_path / "run")
    assert run.settings.tokenizer == tokenizer and run.tokenizer_model == prepared.tokenizer_model
    with run.text_encoder() as text_encoder:
        encoded = text_encoder.read_texts(shard.table["text"].to_pylist())
    assert encoded.ids.tolist() == expected


@pytest.mark.parametrize(
    ("group", "changes", "words"),
    [
        ("model", {"embedding_dim": 60_000}, "fewer than they require"),
        ("model", {"num_layers": 256}, "fewer than they require"),
        ("model", {"num_layers": 257}, "model.num_layers=257: must be in [1, 256]"),
        ("model", {"name": None}, "is not registered"),
        ("model", {"name": "${oc.env:HOME}"}, "must be a plain value"),
        ("trainer", {"device": "${oc.env:HOME}"}, "must be a plain value"),
        ("corpus", {"files": ["${korlm_sweep_dir:made,null}"]}, "must be a plain value"),
        ("model", {"_target_": "os.abort"}, "unknown setting model._target_"),
    ],
)
def test_manipulated_settings(
    tiny_run: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: str,
    changes: dict[str, Any],
    words: str,
) -> None:
    """No code is run, no file read or created, and no memory allocated."""
    monkeypatch.chdir(tmp_path)
    register_resolvers()
    checkpoint = load_checkpoint(tiny_run("lstm").folder / "checkpoints" / "best.pt")
    checkpoint["config"][group] |= changes
    path = tmp_path / "run" / "checkpoints" / "best.pt"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError) as caught:
        korlm.load(tmp_path / "run")
    message = str(caught.value)
    assert str(path) in message and words in message and len(message.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "changes", [{"model": None}, {"model": {"a": 1}}, {"spelling": []}, {"learned": "x"}], ids=repr
)
def test_parts_of_another_type(
    tiny_run: Callable[[str], Any], tmp_path: Path, changes: dict[str, Any]
) -> None:
    checkpoint = load_checkpoint(tiny_run("lstm").folder / "checkpoints" / "best.pt")
    path = tmp_path / "run" / "checkpoints" / "best.pt"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, checkpoint | changes)
    with pytest.raises(CheckpointError, match=r"best\.pt: does not match its own settings"):
        korlm.load(tmp_path / "run")


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no checkpoints/best\.pt"):
        korlm.load(tmp_path)


def test_a_forked_process_closes_a_run_without_its_lock(
    tiny_run: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread of the parent may have held the lock at the fork."""
    run = korlm.load(tiny_run("lstm").folder)
    holder = threading.Thread(target=run.lock.acquire)  # never released
    holder.start()
    holder.join()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    closer = threading.Thread(target=run.close, daemon=True)
    closer.start()
    closer.join(10)
    assert not closer.is_alive()
