"""Weights & Biases, offline; skipped where it is missing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from tiny_runs import make_settings, prepare_tiny, resume, train_until

from korlm.config import TrackerName
from korlm.dataset.prepared import Prepared
from korlm.training.trackers.base import read_id

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("wandb")

pytestmark = pytest.mark.filterwarnings("ignore")
SECRET = "value-of-an-environment-variable"


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Return a tiny corpus."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    return prepare_tiny(tmp_path)


def test_a_run_and_its_continuation(prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = make_settings(prepared, trainer={"tracker": [TrackerName.wandb]})
    train_until(settings, prepared, folder, 3)
    run_id = read_id(folder, "wandb")
    resume(prepared, folder).fit()
    assert read_id(folder, "wandb") == run_id
    logs = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert {path.name for path in logs} == {f"run-{run_id}.wandb"}
    content = b"".join(path.read_bytes() for path in logs)
    assert b"final/test/perplexity" in content and b"optimizer.lr" in content
    assert b"interrupted" in content and b"finished" in content
    assert SECRET.encode() not in content
    assert not list((folder / "wandb").glob("*/files/*"))  # no code, packages or console output
