"""Weights & Biases: offline in the run directory, unless the user is logged in."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from korlm.training.trackers.base import RunStatus, Splits, Tracker, flatten, read_id, write_id
from korlm.utils.errors import require_extra

logger = logging.getLogger(__name__)

_FINISH_TIMEOUT = 300.0  # seconds; what is not uploaded then stays on the disk
_EXIT_CODE = {RunStatus.finished: 0, RunStatus.interrupted: 255, RunStatus.failed: 1}


class WandbTracker(Tracker):
    """Records scalars, settings and final metrics in Weights & Biases.

    Neither code, console output, command line, packages nor the hardware are recorded.
    """

    name = "wandb"

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder
        self._settings = settings
        self._run: Any = None

    def start(self) -> None:
        """Create the run, or continue that of a resumed training."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        with require_extra("wandb"):
            import wandb

        run_id = read_id(self._folder, self.name)
        is_new = run_id is None
        run_id = run_id or uuid.uuid4().hex
        # WANDB_MODE and the command "wandb offline" are respected by mode=None.
        is_chosen = bool(os.environ.get("WANDB_MODE"))
        online = is_chosen or wandb.login(prompt=False, verify=False)
        self._run = wandb.init(
            id=run_id,
            name=self._folder.name,
            project=os.environ.get("WANDB_PROJECT") or "korlm",
            dir=str(self._folder),
            mode=None if online else "offline",
            resume=None if is_new else "allow",
            reinit="create_new",  # a run of the caller stays untouched
            settings=wandb.Settings(
                silent=True,
                host="",
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                finish_timeout=_FINISH_TIMEOUT,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        write_id(self._folder, self.name, run_id)
        self._run.config.update(flatten(self._settings), allow_val_change=True)
        # An own axis: W&B drops points whose step is lower than one before, which a run that was
        # killed and resumed from its checkpoint has.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        if self._run.settings.mode == "online":
            where = self._run.url
        else:
            where = f"offline; upload it with: wandb sync {self._folder}/wandb/offline-run-*"
        logger.info("W&B: run %s, %s", run_id, where)

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        if scalars:
            self._run.log({"step": step, **scalars})

    def log_result(self, step: int, settings: Mapping[str, Any], splits: Splits) -> None:
        """Write the final metrics to the summary as ``final/SPLIT/KEY``."""
        self._run.summary.update(
            {
                f"final/{split}/{key}": value
                for split, metrics in splits.items()
                for key, value in metrics.items()
            }
        )

    def close(self, status: RunStatus = RunStatus.finished) -> None:
        if self._run is not None:
            self._run.summary["status"] = status.value
            self._run.finish(exit_code=_EXIT_CODE[status])
            self._run = None
