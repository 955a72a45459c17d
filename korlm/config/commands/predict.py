"""Settings of predictions."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from korlm.config.commands.inference import TextInputSettings
from korlm.config.registry import register
from korlm.config.validation import setting

PREDICTION_ENDINGS = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")


class OutputFormat(enum.Enum):
    """Formats of standard output."""

    tsv = "tsv"
    jsonl = "jsonl"


@register("", "predict")
@dataclass
class PredictSettings(TextInputSettings):
    r"""Predict labels, spans or texts with a model of a task.

    Writes one row per line of the input, in the same order: the text, and what the task of the run
    predicts for it (classification: label, its probability, and the probability of each class;
    tagging: labeled parts of the text as JSON, each with its probability, or the text with spaces;
    seq2seq: the written text and the natural log of its probability).

      python -m korlm.predict run=outputs/runs/DIR input=reviews.txt
      python -m korlm.predict run=outputs/runs/DIR input=reviews.tsv corpus.text_column=review
      python -m korlm.predict run=outputs/runs/DIR input=reviews.txt output=labels.jsonl
      echo 정말 재미있다 | python -m korlm.predict run=outputs/runs/DIR input=-

    TSV is read without options by pandas (sep="\t") and R (read.delim): cells are quoted where
    necessary, and a missing value is NA.
    """

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
        if self.output != "-" and not self.output.endswith(PREDICTION_ENDINGS):
            self._fail("output", f"must end in {', '.join(PREDICTION_ENDINGS)}, or be -")
