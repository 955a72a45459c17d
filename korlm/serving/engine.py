"""A trained run that answers the page: one model, one tokenizer, one question at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch

from korlm.config import Context, ScoreUnit
from korlm.dataset.text_encoder import TextEncoder
from korlm.dataset.vocab import EOS
from korlm.detokenizers.base import Detokenizer
from korlm.evaluation.surprisal.scorer import SurprisalScorer
from korlm.evaluation.surprisal.tables import rows_of
from korlm.generation.generator import Generator, StoppingCriteria
from korlm.generation.sampling import Sampling
from korlm.runs.trained_run import TrainedRun
from korlm.serving.app import Answer, GenerateRequest


class _OneTokenizer:
    """A run whose readers are all the same one: Kkma starts once for everything."""

    def __init__(self, run: TrainedRun, reader: TextEncoder) -> None:
        self.model, self.vocab, self.start_id = run.model, run.vocab, run.start_id
        self._run, self._reader = run, reader

    def reader(self) -> TextEncoder:
        return self._reader

    def detokenizer(self) -> Detokenizer:
        return self._run.detokenizer()


class Engine:
    """What the server asks; a context manager.

    Args:
        run: an opened run.
        device: where its model is to run.
    """

    def __init__(self, run: TrainedRun, device: torch.device) -> None:
        self._run = run
        self._reader = run.reader()
        self._generator = Generator(_OneTokenizer(run, self._reader), device)
        self._model = self._generator.completer.reader.model

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self._generator.close()
        self._reader.__exit__(*error)

    def warm_up(self) -> None:
        """Starts the tokenizer before the first question does."""
        self.surprisal("가")

    def info(self) -> Answer:
        """See ``Backend.info``."""
        settings, size = self._run.settings, len(self._run.vocab)
        run = self._run.folder.resolve().name
        model, tokenizer = settings.model.name, settings.tokenizer.name
        return {
            "run": run,
            "model": model,
            "tokenizer": tokenizer,
            "vocab_size": size,
            "description": f"{run} · {model} · {tokenizer} · {size:,} tokens",
        }

    def complete(self, text: str, k: int) -> Answer:
        """See ``Backend.complete``."""
        found = self._generator.completer.complete(text, k)
        eojeols = [{"eojeol": e.text, "probability": e.probability} for e in found.eojeols]
        return {
            "completions": eojeols,
            "typed_probability": found.typed_probability,
            "rest": found.rest,
        }

    def surprisal(self, text: str) -> Answer:
        """See ``Backend.surprisal``; the text is one document."""
        scorer = SurprisalScorer(self._model, self._run.start_id, Context.document)
        reading = self._reader.read_texts(text.split("\n"))
        tables = [rows_of(costs, ScoreUnit.morph) for costs in scorer.score([reading])]
        rows = [row for table in tables for row in table.to_pylist()]
        lines = itertools.groupby(rows, key=lambda row: row["line"])
        return {"lines": [_line(number, list(parts)) for number, parts in lines]}

    def write(self, wish: GenerateRequest) -> Iterator[str]:
        """See ``Backend.write``; the first piece is the beginning of the prompt."""
        sampling = Sampling(wish.temperature, wish.top_k, wish.top_p, wish.repetition_penalty)
        length = StoppingCriteria(wish.max_morphs, sentences=3)
        return self._generator.stream(wish.prompt, sampling, length, wish.seed)


def _line(number: int, rows: list[dict[str, Any]]) -> Answer:
    tokens = [
        {
            "morph": row["morph"],
            "tag": row["tag"],
            "eojeol": row["eojeol"],
            "eojeol_text": row["eojeol_text"],
            "surprisal": _finite(row["surprisal"]),
            "entropy": _finite(row["entropy"]),
            "unknown": row["unknown"],
        }
        for row in rows
        if not (row["morph"] == EOS and row["eojeol"] is None)
    ]
    return {
        "line": number,
        "bits": _finite(sum(row["surprisal"] for row in rows)),
        "tokens": tokens,
    }


def _finite(bits: float) -> float | None:
    """JSON has no infinity."""
    return bits if math.isfinite(bits) else None
