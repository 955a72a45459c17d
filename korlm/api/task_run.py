"""Define the run of a task other than language modeling that ``korlm.load`` returns."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.api.evaluation import evaluate_settings, evaluate_tasks
from korlm.config import TrainSettings
from korlm.dataset.vocab import Vocab
from korlm.modules.base import Trainable
from korlm.runs.trained_run import Run
from korlm.tasks.base import Predictor, task_of


@dataclass(frozen=True)
class TaskRun(Run):
    """The best model of a run of another task; a context manager, which stops its tokenizer.

        run = korlm.load("outputs/runs/DIR")
        run.predict(["정말 재미있다", "돈이 아깝다"])

    Tokenizer and threads: see ``LanguageModelRun``.
    """

    @classmethod
    def build_model(
        cls, folder: Path, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> Trainable:
        """See ``Run.build_model``."""
        return task_of(settings).build_model(settings, vocab, labels)

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The task's predictor."""
        return task_of(self.settings).build_predictor(self, self.model, self.device)

    def warm_up(self) -> None:
        """Start the tokenizer and compute once, so that the next call does not wait for either."""
        self.predict("가")

    def predict(self, texts: str | Sequence[str]) -> list[dict[str, Any]]:
        """Return a prediction for each text, as the rows that ``python -m korlm.predict`` writes.

        Args:
            texts: lines of text; a str is a single line.

        Raises:
            CorpusError: a text is not a str or has a lone surrogate.
            TokenizerError: the tokenizer of the run does not start.
        """
        with self.lock:
            return self.predictor.predict(self.text_encoder().read_texts(texts))

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
        with self.lock:
            results = evaluate_tasks(composed.settings, {"run": self}, composed.overrides)
        return {split: rows["run"] for split, rows in results.items()}
