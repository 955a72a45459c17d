"""MLflow: a file store in the run directory, or the server of ``MLFLOW_TRACKING_URI``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from korlm.training.trackers.base import RunStatus, Splits, Tracker, flatten, read_id, write_id
from korlm.utils.errors import require_extra

logger = logging.getLogger(__name__)

# MLflow's default of 7 retries with growing pauses blocks the training for minutes.
_RETRIES = "3"
_MAX_PENDING = 100  # points that are sent at once
_MAX_PARAMS = 100  # of MLflow per call
_STATUS = {
    RunStatus.finished: "FINISHED",
    RunStatus.interrupted: "KILLED",
    RunStatus.failed: "FAILED",
}


class MLflowTracker(Tracker):
    """Records scalars, settings and final metrics in MLflow.

    It uses MLflow's client, not its global active run, so a run of the caller stays untouched.
    """

    name = "mlflow"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._settings = settings
        self._client: Any = None
        self._pending: list[Any] = []

    def start(self) -> None:
        """Create the run, or continue that of a resumed training.

        A continued run keeps its params, as MLflow lets none of them change.
        """
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # Without it, MLflow 3.9 and later refuse to write files.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        with require_extra("mlflow"):
            from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or (self._folder / "mlruns").resolve().as_uri()
        client = MlflowClient(tracking_uri=uri)
        run_id = self._continued(client)
        if run_id is None:
            run_id = self._created(client)
            write_id(self._folder, self.name, run_id)
        self._client, self._run_id = client, run_id
        logger.info("MLflow: run %s in %s", run_id, uri)

    def _continued(self, client: Any) -> str | None:
        """Return the id of the run to continue; None if there is none at this address."""
        from mlflow.exceptions import MlflowException

        run_id = read_id(self._folder, self.name)
        if run_id is not None:
            try:
                client.update_run(run_id, status="RUNNING")
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None
        return run_id

    def _created(self, client: Any) -> str:
        """Return the id of a new run, with the settings as params."""
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "korlm"
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
        run_id: str = client.create_run(experiment_id, run_name=self._folder.name).info.run_id
        params = [Param(key, str(value)) for key, value in flatten(self._settings).items()]
        for at in range(0, len(params), _MAX_PARAMS):
            client.log_batch(run_id, params=params[at : at + _MAX_PARAMS])
        return run_id

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """See ``Tracker``; points are sent in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending += [Metric(tag, float(value), now, step) for tag, value in scalars.items()]
        if len(self._pending) >= _MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            self._client.log_batch(self._run_id, metrics=self._pending)
            self._pending = []

    def log_result(self, step: int, settings: Mapping[str, Any], splits: Splits) -> None:
        """Log the final metrics as ``final/SPLIT/KEY``."""
        for split, metrics in splits.items():
            self.log_scalars(step, {f"final/{split}/{key}": v for key, v in metrics.items()})

    def close(self, status: RunStatus = RunStatus.finished) -> None:
        if self._client is not None:
            try:
                self.flush()
            finally:
                self._client.set_terminated(self._run_id, status=_STATUS[status])
                self._client = None
