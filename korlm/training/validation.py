"""Evaluate the validation split during training, keep the best model, call the callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from korlm.modules.base import Trainable
from korlm.tasks.base import Task
from korlm.training.checkpointing import CheckpointWriter, Progress
from korlm.training.stop import StopSignal
from korlm.training.trackers.base import Tracker
from korlm.utils.distributed import ProcessGroup
from korlm.utils.errors import TrainingError
from korlm.utils.progress import ProgressBar

# (step, fraction of all steps, metrics of the validation split); it may raise to end the run.
ValidationCallback = Callable[[int, float, Mapping[str, float]], None]

DIVERGENCE_HINT = (
    "lower optimizer.lr (with optimizer=muon also optimizer.matrix_lr), or set a (lower) "
    "trainer.clip_norm"
)
CHECKPOINT_HINT = "existing checkpoints precede the failure"  # of errors during the training


@dataclass
class Validator:
    """Evaluates the validation split, keeps the best model, logs, and calls the callbacks.

    Attributes:
        progress: updated by each step and each validation.
        tracker: records scalars, texts and images; of ranks other than 0 nothing.
        group: processes of the run, among which the rows of each batch are divided.
    """

    model: Trainable
    task: Task[Any]
    progress: Progress
    checkpoints: CheckpointWriter
    tracker: Tracker
    stop: StopSignal
    group: ProcessGroup
    total_steps: int
    callbacks: tuple[ValidationCallback, ...] = ()

    def evaluate(self, split: str, show_progress: bool = False) -> dict[str, float]:
        """Return the metrics of a split."""
        with ProgressBar(
            total=len(self.task.eval_batches[split]),
            desc="evaluating",
            leave=False,
            shown=show_progress and self.group.is_main_process,
        ) as bar:

            def on_batch() -> None:
                self.stop.check()
                bar.update()

            return self.task.evaluate(self.model, split, on_batch)

    def validate(self, is_final: bool = False) -> tuple[dict[str, float], bool]:
        """Return the metrics of the validation split, and True if the model was kept as the best.

        ``Trainer.is_done`` decides on early stopping. A perplexity that is infinite although the
        loss is finite, as at the start of some trainings, does not end the run, but such a model is
        never the best (``Task.headline``).

        Args:
            is_final: the model is complete, such as an n-gram model: it is the best one whatever
                its metrics are.

        Raises:
            TrainingInterrupted: a stop signal was received; the validation has no effect.
            TrainingError: the monitored metric is not finite or the loss is NaN, unless
                ``is_final``.
        """
        progress, task = self.progress, self.task
        metrics = self.evaluate("valid")
        cost, step = task.cost(metrics), progress.step
        # A loss that still falls makes a model better than an earlier one with the same accuracy.
        loss = metrics.get("loss", math.inf)
        is_better = (cost, loss) < (progress.best_cost, progress.loss_at_best)
        is_best = is_final or (is_better and math.isfinite(metrics[task.headline]))
        scalars = task.eval_scalars("valid", metrics)
        scalars |= task.best_scalars(cost if is_best else progress.best_cost)
        self.tracker.log_scalars(step, scalars)
        self.tracker.flush()  # a validation is visible at once
        wrong = task.monitor if not math.isfinite(cost) else "loss" if math.isnan(loss) else ""
        if wrong and not is_final:
            raise TrainingError(
                f"valid {wrong} is {metrics[wrong]} at step {step}: {DIVERGENCE_HINT}; "
                + CHECKPOINT_HINT
            )
        progress.validated_step = step
        if is_best:
            progress.best_cost, progress.loss_at_best, progress.best_step = cost, loss, step
            progress.validations_without_improvement = 0
            # Before saving, so that resume_from=best does not count the validations before this.
            progress.plateau.validations_without_improvement = 0
            self.checkpoints.save_best()
        else:
            progress.validations_without_improvement += 1
        if self.group.is_main_process:
            if self.tracker.shows_samples:
                self.tracker.log_samples(step, task.samples(self.model))
                self.tracker.log_images(step, task.images(self.model))
            for callback in self.callbacks:
                callback(step, step / self.total_steps, metrics)
        return metrics, is_best
