"""Checkpoints: a round trip, damaged files, and failures that keep the previous checkpoint."""

from __future__ import annotations

import errno
import os
import pickle
import random
import shlex
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import note_disk
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny_runs import assert_equal

from korlm.runs.checkpoint import (
    FORMAT,
    load_checkpoint,
    random_states,
    restore_random_states,
    resume_command,
    save_checkpoint,
)
from korlm.sweeps.folder import sweep_resume_command
from korlm.utils.errors import CheckpointError, ConfigError, OutputError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of last.pt of a run."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    return tmp_path / "run" / "checkpoints" / "last.pt"


def make_checkpoint(value: float = 1.0) -> dict[str, Any]:
    model = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, value)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {
        "config": {"model": {"name": "lstm", "dropout": 0.5}, "name": None, "files": ["가.txt"]},
        "fingerprint": "0123abcd",
        "vocab": {"tokens": ["<pad>", "한"], "counts": [0, 3]},
        "spelling": {"grams0": torch.arange(4)},
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": {"step": 7, "best_loss": float("inf"), "plateau": {"factor": 0.5}},
        "state": [torch.randn(2, 3)],
        "rng": random_states(),
    }


def error_of(path: Path) -> str:
    """Return the error of a refused file; check that it is one line and names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{path}: ")
    return message


def test_round_trip(path: Path) -> None:
    checkpoint = make_checkpoint()
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    assert loaded.pop("format") == FORMAT
    assert_equal(dict(loaded["model"]), dict(checkpoint["model"]))
    del loaded["model"], checkpoint["model"]
    assert_equal(loaded, checkpoint)
    assert os.listdir(path.parent) == ["last.pt"]


def test_opens_without_korlm(path: Path) -> None:
    """Plain data and tensors only: PyTorch alone opens it without trusting anything."""
    save_checkpoint(path, make_checkpoint())
    assert torch.load(path, weights_only=True)["fingerprint"] == "0123abcd"


def test_a_newer_one_replaces_the_older(path: Path) -> None:
    save_checkpoint(path, make_checkpoint(1.0))
    save_checkpoint(path, make_checkpoint(2.0))
    assert load_checkpoint(path)["model"]["weight"].mean() > 1.5
    assert os.listdir(path.parent) == ["last.pt"]


# --- not a checkpoint ----------------------------------------------------------------------------


class Bomb:
    """A pickle that makes a folder when it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_foreign_code_is_refused_and_not_run(path: Path, tmp_path: Path, how: str) -> None:
    trace = tmp_path / "was-here"
    carrier = {**make_checkpoint(), "format": FORMAT, "extra": Bomb(trace)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(carrier))
    else:
        torch.save(carrier, path, _use_new_zipfile_serialization=how == "torch")
    assert "could run code" in error_of(path)
    assert not trace.exists()
    if how != "pickle":  # the attack works without weights_only
        torch.load(path, weights_only=False)
        assert trace.exists()


def test_missing(path: Path) -> None:
    assert error_of(path).endswith("no such checkpoint")


@pytest.mark.parametrize("content", [b"", b"\x80", "그냥 글입니다.\n".encode(), b"PK\x03\x04"])
def test_not_a_checkpoint_at_all(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    error_of(path)
    error_of(path.parent)


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "older_pytorch"])
def test_truncated_anywhere(path: Path, is_archive: bool) -> None:
    torch.save(make_checkpoint(), path, _use_new_zipfile_serialization=is_archive)
    whole = path.read_bytes()
    for size in [*range(0, len(whole), max(len(whole) // 40, 1)), len(whole) - 1]:
        path.write_bytes(whole[:size])
        error_of(path)


@pytest.mark.parametrize("start", [b"", b"\x80\x02"], ids=["plain", "like_a_pickle"])
def test_random_bytes(path: Path, start: bytes) -> None:
    rng = random.Random(1)
    for size in [1, 2, 3, 10, 100, 5000] * 20:
        path.write_bytes(start + rng.randbytes(size))
        error_of(path)


def test_damaged_bytes_never_end_in_anything_else(path: Path) -> None:
    """Damage in padding may go unnoticed, but no other exception may be raised."""
    save_checkpoint(path, make_checkpoint())
    whole, rng, refused = path.read_bytes(), random.Random(2), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            load_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 20


def test_a_changed_bit_of_a_weight_is_noticed(path: Path) -> None:
    """PyTorch writes checksums, but does not verify them."""
    checkpoint = make_checkpoint()
    checkpoint["model"] = {"weight": torch.full((1000,), 1.5)}
    save_checkpoint(path, checkpoint)
    data = bytearray(path.read_bytes())
    data[data.index(1000 * struct.pack("<f", 1.5)) + 2000] ^= 1
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["model"]["weight"].unique().numel() == 2
    assert "the checksum of" in error_of(path)


def test_hints_for_a_damaged_checkpoint(path: Path) -> None:
    run = path.parent.parent
    best = path.with_name("best.pt")
    path.write_bytes(b"")
    assert error_of(path).endswith("the run has no other checkpoint: train again")
    save_checkpoint(best, make_checkpoint())
    command = f"python -m korlm.train resume={run} resume_from=best"
    assert error_of(path).endswith(f"resume from the best model: {command}")
    best.write_bytes(b"")
    assert error_of(best).endswith("copy last.pt over it")
    path.unlink()
    assert error_of(best).endswith("the run has no other checkpoint: train again")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_is_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    save_checkpoint(path, make_checkpoint())

    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(torch, "load", fail)
    message = error_of(path)
    assert message.startswith(f"{path}: cannot be read ({os.strerror(code)})")
    assert "damaged" not in message and "copy" not in message


def test_too_little_memory_is_not_called_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(path, make_checkpoint())

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(ConfigError, match=r"last\.pt: needs more memory than available"):
        load_checkpoint(path)


def test_it_is_on_disk_before_it_is_renamed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = note_disk(monkeypatch)
    save_checkpoint(path, make_checkpoint())
    assert events == ["fsync", "replace last.pt"]


@pytest.mark.parametrize("content", [torch.zeros(3), {"model": {}}, [1, 2], "text"])
def test_pytorch_files_of_others(path: Path, content: Any) -> None:
    torch.save(content, path)
    assert error_of(path).endswith("a PyTorch file, but not a checkpoint of korlm")


@pytest.mark.parametrize("key", ["config", "vocab", "model", "fingerprint", "progress"])
def test_a_missing_part(path: Path, key: str) -> None:
    checkpoint = make_checkpoint()
    del checkpoint[key]
    save_checkpoint(path, checkpoint)
    assert error_of(path).endswith("not a checkpoint of korlm")


def test_another_format(path: Path) -> None:
    torch.save({**make_checkpoint(), "format": FORMAT + 1}, path)
    assert f"checkpoint format {FORMAT + 1}, this version of korlm reads {FORMAT}" in error_of(path)
    torch.save({"format": FORMAT + 1, "weights": {}}, path)  # it may have other keys
    assert f"checkpoint format {FORMAT + 1}, this" in error_of(path)


# --- failures while writing ----------------------------------------------------------------------

FAILURES: dict[str, BaseException] = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "pytorch": RuntimeError("[enforce fail at inline_container.cc:664] .\nunexpected pos 64 vs 0"),
    "interrupt": KeyboardInterrupt(),
}


def fail_midway(monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    def save(content: object, file: Any) -> None:
        file.write(b"half a checkpoint")
        raise failure

    monkeypatch.setattr(torch, "save", save)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_keeps_the_older_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    save_checkpoint(path, make_checkpoint())
    before = path.read_bytes()
    fail_midway(monkeypatch, FAILURES[kind])
    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        save_checkpoint(path, make_checkpoint(2.0))
    if kind != "interrupt":
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert message.startswith(f"{path}: ")
        assert message.endswith(resume_command(path.parent.parent))
        assert "No space left" in message or "disk full" in message
    assert os.listdir(path.parent) == ["last.pt"]
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert load_checkpoint(path)["progress"]["step"] == 7


def test_a_failure_of_the_last_step_keeps_the_older_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(path, make_checkpoint())
    before = path.read_bytes()

    def replace(*paths: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match="Permission denied"):
        save_checkpoint(path, make_checkpoint(2.0))
    assert os.listdir(path.parent) == ["last.pt"]
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device /dev/full of Linux")
def test_a_disk_that_is_really_full(path: Path) -> None:
    save_checkpoint(path, make_checkpoint())
    before = path.read_bytes()
    path.with_name("last.pt.tmp").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"No space left|disk full"):
        save_checkpoint(path, make_checkpoint(2.0))
    assert os.listdir(path.parent) == ["last.pt"]
    assert path.read_bytes() == before


def test_other_errors_of_pytorch_are_not_called_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_midway(monkeypatch, RuntimeError("CUDA error: an illegal memory access"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        save_checkpoint(path, make_checkpoint())
    assert os.listdir(path.parent) == []


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        save_checkpoint(tmp_path / "missing" / "last.pt", make_checkpoint())


# --- random numbers ------------------------------------------------------------------------------


def test_random_states_are_restored(path: Path) -> None:
    torch.manual_seed(1)
    torch.rand(5)
    save_checkpoint(path, make_checkpoint())
    # make_checkpoint draws numbers itself, so the saved states are the reference.
    states = load_checkpoint(path)["rng"]
    restore_random_states(states)
    first = torch.rand(4)
    torch.manual_seed(99)
    restore_random_states(states)
    torch.testing.assert_close(torch.rand(4), first, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["a b", "kim's run", "내 것,둘"])
def test_the_command_that_resumes_is_read_back(name: str) -> None:
    (argument,) = shlex.split(resume_command(Path(name)))[3:]
    assert OverridesParser.create().parse_override(argument).value() == name
    (argument,) = shlex.split(sweep_resume_command(Path(name)))[4:]
    assert OverridesParser.create().parse_override(argument).value() == name
