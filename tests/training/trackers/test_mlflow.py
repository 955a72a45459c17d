"""MLflow: what a run leaves in its store, read back by MLflow; skipped where it is missing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import make_settings, resume, start, train_until

from korlm.config import TrackerName
from korlm.dataset.prepared import Prepared
from korlm.training.trackers.base import read_id

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.filterwarnings("ignore")
TRAINER = {"tracker": [TrackerName.mlflow]}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    # Restored after the test, whatever the tracker sets.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def stored(folder: Path) -> tuple[Any, Any]:
    """Return the client and the run of a run directory."""
    client = MlflowClient(tracking_uri=(folder / "mlruns").as_uri())
    run_id = read_id(folder, "mlflow")
    assert run_id is not None
    return client, client.get_run(run_id)


def test_a_finished_run(prepared: Prepared, tmp_path: Path) -> None:
    run = start(make_settings(prepared, trainer=TRAINER), prepared, tmp_path)
    splits = run.fit()
    client, record = stored(tmp_path)
    assert record.info.status == "FINISHED" and record.info.run_name == tmp_path.name
    assert client.get_experiment(record.info.experiment_id).name == "korlm"
    assert record.data.params["optimizer.lr"] == "0.02"
    assert record.data.metrics["final/test/perplexity"] == splits["test"]["perplexity"]
    points = client.get_metric_history(record.info.run_id, "loss/train")
    assert [point.step for point in points] == list(range(1, run.total_steps + 1))
    assert set(record.data.tags) == {"mlflow.runName"}


def test_a_resumed_run_is_the_same_run(prepared: Prepared, tmp_path: Path) -> None:
    run = train_until(make_settings(prepared, trainer=TRAINER), prepared, tmp_path, 3)
    client, record = stored(tmp_path)
    assert record.info.status == "KILLED"
    resumed = resume(prepared, tmp_path)
    resumed.fit()
    client, again = stored(tmp_path)
    assert again.info.run_id == record.info.run_id and again.info.status == "FINISHED"
    points = client.get_metric_history(record.info.run_id, "loss/train")
    assert [point.step for point in points] == list(range(1, run.total_steps + 1))
    assert len(client.search_runs([again.info.experiment_id])) == 1


def test_another_store_gets_a_new_run(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(make_settings(prepared, trainer=TRAINER), prepared, tmp_path, 3)
    first = read_id(tmp_path, "mlflow")
    uri = (tmp_path / "elsewhere").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    resume(prepared, tmp_path).fit()
    second = read_id(tmp_path, "mlflow")
    assert second is not None and second != first
    assert MlflowClient(tracking_uri=uri).get_run(second).info.status == "FINISHED"
