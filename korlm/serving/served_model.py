"""Answer requests with one trained run and one tokenizer.

Nothing here is thread-safe: ``app.py`` queues the requests.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from korlm.api.runs import LanguageModelRun, TaskRun
from korlm.config import ScoreContext
from korlm.dataset.vocab import EOS
from korlm.generation.generator import StoppingCriteria
from korlm.generation.sampling import Sampling
from korlm.runs.trained_run import Run

Json = dict[str, Any]


def _describe(run: Run) -> Json:
    """Return a description of a run."""
    settings, vocab_size = run.settings, len(run.vocab)
    name, task = run.folder.resolve().name, settings.task.name
    model, tokenizer = settings.model.name, settings.tokenizer.name
    parts = [name, *([task] if isinstance(run, TaskRun) else []), model, tokenizer]
    return {
        "run": name,
        "task": task,
        "model": model,
        "tokenizer": tokenizer,
        "vocab_size": vocab_size,
        "description": " · ".join([*parts, f"{vocab_size:,} tokens"]),
    }


class ServedLanguageModel:
    """Answers the requests of the JSON interface with a language model."""

    def __init__(self, run: LanguageModelRun) -> None:
        self._run = run

    def info(self) -> Json:
        """Return a description of the run."""
        return _describe(self._run)

    def complete(self, text: str, num_completions: int) -> Json:
        """Return the most probable completions of the last eojeol."""
        result = self._run.complete(text, num_completions)
        return {
            "completions": [
                {"eojeol": e.text, "probability": e.probability} for e in result.eojeols
            ],
            "typed_probability": result.typed_probability,
            "rest": result.rest,
        }

    def surprisal(self, text: str) -> Json:
        """Return the surprisal in bits of each morpheme of a text, which is one document.

        Blank lines have no entry; each entry has the number of its line.
        """
        rows = self._run.surprisal(text.split("\n"), context=ScoreContext.document).to_pylist()
        lines = itertools.groupby(rows, key=lambda row: row["line"])
        return {"lines": [_line(number, list(line_rows)) for number, line_rows in lines]}

    def generate(
        self, prompt: str, sampling: Sampling, stopping: StoppingCriteria, seed: int | None
    ) -> Iterator[str]:
        """Yield a sampled text in pieces; see ``Generator.stream``."""
        return self._run.generator.stream(prompt, sampling, stopping, seed)


class ServedTask:
    """Answers the requests of the JSON interface with a model of a task."""

    def __init__(self, run: TaskRun) -> None:
        self._run = run

    def info(self) -> Json:
        """Return a description of the run, with the labels that the model predicts."""
        return _describe(self._run) | {"labels": list(self._run.labels)}

    def predict(self, text: str) -> Json:
        """Return a prediction for each line, with the columns of ``python -m korlm.predict``."""
        rows = self._run.predict(text.split("\n"))
        return {"predictions": [{key: _json_value(row[key]) for key in row} for row in rows]}


def _line(number: int, rows: list[Json]) -> Json:
    """Return a line with its tokens; its ``bits`` include those of <eos>, which is not listed."""
    keys = ("morph", "tag", "eojeol", "eojeol_text", "unknown")
    tokens = [
        {
            **{key: row[key] for key in keys},
            "surprisal": _json_value(row["surprisal"]),
            "entropy": _json_value(row["entropy"]),
        }
        for row in rows
        if not (row["morph"] == EOS and row["eojeol"] is None)
    ]
    bits = sum(row["surprisal"] for row in rows)
    return {"line": number, "bits": _json_value(bits), "tokens": tokens}


def _json_value(value: Any) -> Any:
    """Return a value of a table; None for infinity and NaN, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
