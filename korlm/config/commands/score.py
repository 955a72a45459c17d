"""Settings of the surprisal of a text."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field
from typing import Any

from korlm.config.commands.inference import UseSettings
from korlm.config.data import TextConfig
from korlm.config.validation import MISSING, path_field, paths_field, setting

ENDINGS = (".tsv", ".tsv.gz", ".parquet")


class Context(enum.Enum):
    """What a token is predicted from."""

    line = "line"
    document = "document"
    carried = "carried"


class ScoreUnit(enum.Enum):
    """What has a row."""

    morph = "morph"
    eojeol = "eojeol"
    sentence = "sentence"


@dataclass
class ScoreSettings(UseSettings):
    """python -m korlm.score: run and text -> the surprisal of every morph, eojeol or sentence."""

    input: Any = paths_field(default=MISSING)
    # a file, folder or glob, or several: [FILE,FILE]; -: standard input
    corpus: TextConfig = field(default_factory=TextConfig)
    # how the text is read, with the keys of training
    context: Context = Context.line
    # what a token is predicted from: the tokens before it in its line, in its document, or in all
    output: str = path_field("-")
    # FILE.tsv, FILE.tsv.gz or FILE.parquet; -: standard output, as TSV
    unit: ScoreUnit = setting(ScoreUnit.morph, renamed_from="level")
    # what has a row of `output`: each morph, eojeol or sentence
    eojeol_output: str | None = path_field(None, renamed_from="eojeols")
    # another file of the same pass, with a row for each eojeol
    sentence_output: str | None = path_field(None, renamed_from="sentences")
    # another file of the same pass, with a row for each sentence
    entropy: bool = True
    # give the entropy of each prediction too; false is faster
    batch_tokens: int = 4096
    # tokens read at once, in lines or documents of similar length side by side

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "batch_tokens")
        self._at_most(10_000_000, "batch_tokens")
        if not self.inputs or not all(self.inputs):
            self._fail("input", "give a file, a list of files [FILE,FILE], or - (standard input)")
        for key, (target, _) in self.tables().items():
            if not target.endswith(ENDINGS) and not (key == "output" and target == "-"):
                also = ", or be -" if key == "output" else ""
                self._fail(key, f"must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}{also}")
            if [_real(place) for place, _ in self.tables().values()].count(_real(target)) > 1:
                self._fail(key, "is to hold two tables; give each a file of its own")

    @property
    def inputs(self) -> list[str]:
        """``input`` as a list."""
        given = self.input if isinstance(self.input, list) else [self.input]
        return ["" if place is None else str(place) for place in given]

    def tables(self) -> dict[str, tuple[str, ScoreUnit]]:
        """The keys that name a table to write, with its place and what has a row there."""
        named = {
            "output": (self.output, self.unit),
            "eojeol_output": (self.eojeol_output, ScoreUnit.eojeol),
            "sentence_output": (self.sentence_output, ScoreUnit.sentence),
        }
        return {key: (place, level) for key, (place, level) in named.items() if place is not None}


def _real(place: str) -> str:
    """One name for one file, however it was written."""
    return place if place == "-" else os.path.realpath(place)
