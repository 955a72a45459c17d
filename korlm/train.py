"""Command: corpus or prepared corpus -> run directory with a trained and evaluated model.

In Python, ``korlm.train(...)`` does the same (``korlm.api.training``).
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import types
from typing import Any

from korlm.api.training import load_resumed, train_in
from korlm.cli import command as cli
from korlm.cli.output_dirs import is_sweep, output_dir
from korlm.config import TrainSettings
from korlm.config.metrics import cost, objective_value
from korlm.runs.directories import is_finished
from korlm.sweeps.command import command, pruning_callback
from korlm.sweeps.results import finished_cost
from korlm.utils import dist_env

logger = logging.getLogger(__name__)


@command("train")
def main(settings: TrainSettings) -> float:
    """Train a new or a resumed run; return the objective for sweepers to minimize."""
    run_dir, resumed, objective = output_dir(), None, settings.objective
    overrides = cli.command_overrides()
    if is_sweep():
        if is_finished(run_dir):
            logger.info("%s: finished before", run_dir)
            return finished_cost(objective, run_dir)
        is_interrupted = (run_dir / "checkpoints" / "last.pt").is_file()
        settings = dataclasses.replace(settings, resume=str(run_dir) if is_interrupted else None)
    if settings.resume:
        # The overrides of a sweep's job are in its checkpoint.
        settings, resumed = load_resumed(settings, [] if is_sweep() else overrides)
        if not is_sweep():  # the default depends on the task, which the command need not repeat
            objective = settings.objective
    callback = pruning_callback(objective)
    splits = train_in(run_dir, settings, overrides, resumed, callback)
    value = objective_value(objective, splits)
    if value is None and is_sweep():
        logger.warning("objective=%s: this run has no such metric", objective)
    return cost(objective, value)


class _Callable(types.ModuleType):
    """This module after ``import korlm.train``, which hides the function ``korlm.train``."""

    def __call__(self, *settings: Any, **keywords: Any) -> Any:
        from korlm.api.training import train

        return train(*settings, **keywords)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    with dist_env.exit_immediately():
        main()
