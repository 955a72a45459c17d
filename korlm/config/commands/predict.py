"""Settings of predictions."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from korlm.config.commands.inference import InferenceSettings
from korlm.config.groups.data import TextConfig
from korlm.config.registry import register
from korlm.config.validation import MISSING, setting

PREDICTION_ENDINGS = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")


class OutputFormat(enum.Enum):
    """Formats of standard output."""

    tsv = "tsv"
    jsonl = "jsonl"


@register("", "predict")
@dataclass
class PredictSettings(InferenceSettings):
    r"""Predict labels, spans or texts with a model of a task.

    Writes one row per line of the input, in the same order: the text, and what the task of the run
    predicts for it (classification: label, its probability, and the probability of each class;
    seq2seq: the written text and the natural log of its probability).

      python -m korlm.predict run=outputs/runs/DIR input=reviews.txt
      python -m korlm.predict run=outputs/runs/DIR input=reviews.tsv corpus.text_column=review
      python -m korlm.predict run=outputs/runs/DIR input=reviews.txt output=labels.jsonl
      echo 정말 재미있다 | python -m korlm.predict run=outputs/runs/DIR input=-

    TSV has no quotes: tab, line end and backslash in a cell are written \t, \n, \r and \\.
    """

    input: Any = setting(
        MISSING, "File, folder or glob, or several: [FILE,FILE]; -: standard input.", is_path=True
    )
    corpus: TextConfig = setting(TextConfig)
    output: str = setting(
        "-",
        "FILE.tsv, FILE.jsonl, both also with .gz, or FILE.parquet; -: standard output.",
        is_path=True,
    )
    num_best: int = setting(
        1, "seq2seq: texts to write for each line, best first; at most task.num_beams.", min=1
    )
    format: OutputFormat = setting(OutputFormat.tsv, "Format of standard output.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.inputs or not all(self.inputs):
            self._fail("input", "give a file, a list of files [FILE,FILE], or - (standard input)")
        if self.output != "-" and not self.output.endswith(PREDICTION_ENDINGS):
            self._fail("output", f"must end in {', '.join(PREDICTION_ENDINGS)}, or be -")

    @property
    def inputs(self) -> list[str]:
        """``input`` as a list."""
        given = self.input if isinstance(self.input, list) else [self.input]
        return ["" if path is None else str(path) for path in given]
