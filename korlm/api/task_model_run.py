"""Define the run of a task other than language modeling that ``korlm.load`` returns."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from korlm.api.evaluation import evaluate_tasks
from korlm.api.open_run import OpenRun, Resources, evaluate_settings, fields_of
from korlm.dataset.text_encoder import TextEncoder
from korlm.prediction.task_run import TaskRun


@dataclass(frozen=True)
class TaskModelRun(OpenRun, TaskRun):
    """The best model of a run of another task; a context manager, which stops its tokenizer.

    Tokenizer and threads: see ``LanguageModelRun``.
    """

    def __post_init__(self) -> None:
        plain = TaskRun(**fields_of(self, TaskRun))
        object.__setattr__(self, "_resources", Resources(plain))
        weakref.finalize(self, self._resources.close)

    _resources: Resources = dataclasses.field(init=False, repr=False, compare=False)

    def warm_up(self) -> None:
        """Start the tokenizer and compute once, so that the next call does not wait for either."""
        self.predict("가")

    def predict(
        self, texts: str | Sequence[str], text_encoder: TextEncoder | None = None
    ) -> list[dict[str, Any]]:
        """See ``TaskRun.predict``; the tokenizer keeps running."""
        with self._resources.lock:
            return super().predict(texts, text_encoder or self._resources.text_encoder())

    def evaluate(self, **settings: Any) -> dict[str, dict[str, Any]]:
        """Return the metrics of the task on valid and test, or on another text with labels.

        Args:
            settings: of ``python -m korlm.evaluate``: ``corpus``, ``prepared``, ``outputs``,
                ``test``, ``bootstrap``. A corpus that is not prepared yet is written to
                ``outputs``.

        Returns:
            Name of the split or corpus -> metrics with their intervals.

        Raises:
            ConfigError: there is no such setting, or a value is wrong.
            KorlmError: a text is missing or does not fit.
        """
        composed = evaluate_settings(self, settings)
        with self._resources.lock:
            results = evaluate_tasks(composed.settings, {"run": self}, composed.overrides)
        return {split: rows["run"] for split, rows in results.items()}
