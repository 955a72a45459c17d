"""Settings of the surprisal of a text."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.commands.inference import TextInputSettings
from korlm.config.groups.corpus import TextConfig
from korlm.config.registry import register
from korlm.config.validation import setting

ALL = "*"  # of corpus.keep_columns
ENDINGS = (".tsv", ".tsv.gz", ".parquet")


class ScoreContext(enum.Enum):
    """Contexts that a token is predicted from."""

    line = "line"
    document = "document"
    carried = "carried"


class ScoreUnit(enum.Enum):
    """Units of a row of the output."""

    morph = "morph"
    eojeol = "eojeol"
    sentence = "sentence"


@dataclass
class ScoredTextConfig(TextConfig):
    """Format of text files whose other columns the tables keep."""

    kept_is_optional: ClassVar[bool] = True
    keep_columns: list[str] = setting(
        lambda: [ALL],
        "Other columns or JSON keys that the tables keep; [*]: all of TSV, CSV, Parquet and Arrow "
        "files, and the keys of the first object in JSON, without lists and objects; []: none. Of "
        "standard input, only named ones.",
    )

    def _check_kept(self) -> None:
        if self.keep_columns != [ALL]:
            super()._check_kept()


@register("", "score")
@dataclass
class ScoreSettings(TextInputSettings):
    r"""Compute the surprisal of every morph, eojeol or sentence of a text.

    Tokenizes any Korean text with the tokenizer of the run. Each morph has a row, and so has the
    end of each sentence (<eos>), with these columns:

      doc_id line             document and line; blank lines are counted, but have no rows
      eojeol eojeol_text      number in the line of the eojeol (unit between blanks), and its text
      morph tag
      surprisal               -log2 p, in bits
      entropy                 of the predicted distribution, in bits
      unknown                 whether the vocabulary lacks the morph: its surprisal is that of <unk>
      open_surprisal          includes the cost of spelling what the id does not determine, and is
                              comparable between vocabularies
      position                of the morph in the sentence, and in its eojeol
      position_in_eojeol
      char_begin char_end     first and last character in the line as read
      num_syllables           Hangul syllables of the morph
      log_frequency           ln(1 + count in train)
      previous_surprisal      of the row before in the sentence; also previous_num_syllables and
                              previous_log_frequency
      ...                     the other columns of the input, such as item and condition

    Lines, eojeols, positions and characters count from 1, as in R. unit=eojeol and unit=sentence
    give sums; lengths and frequencies are those of the eojeol, its entropy is that of its first
    morph. All sums over a text are equal, <eos> included. The surprisal of probability 0 is inf.

      python -m korlm.score run=outputs/runs/DIR input=book.txt                   one row per morph
      python -m korlm.score run=outputs/runs/DIR input=book.txt unit=eojeol       one per eojeol
      python -m korlm.score run=outputs/runs/DIR input=book.txt context=document  longer context
      python -m korlm.score run=outputs/runs/DIR input='news/*.txt' output=news.parquet \
          eojeol_output=eojeols.parquet sentence_output=sentences.parquet         all at once
      python -m korlm.score run=outputs/runs/DIR input=items.tsv corpus.text_column=sentence \
          unit=eojeol output=eojeols.tsv plot=items.png               keeps the columns of items.tsv
      echo 나는 학교에 간다. | python -m korlm.score run=outputs/runs/DIR input=-

    TSV is read without options by pandas.read_csv(FILE, sep="\t") and R's read.delim(FILE): cells
    are quoted where necessary, and a missing value is NA.
    """

    corpus: ScoredTextConfig = setting(ScoredTextConfig)
    context: ScoreContext = setting(
        ScoreContext.line,
        "Tokens that a prediction depends on: the previous ones of its line or document, or all.",
    )
    output: str = setting(
        "-", "FILE.tsv, FILE.tsv.gz or FILE.parquet; -: standard output, as TSV.", is_path=True
    )
    unit: ScoreUnit = setting(ScoreUnit.morph, "Unit of a row of output.", renamed_from="level")
    eojeol_output: str | None = setting(
        None,
        "Another file of the same pass, with one row per eojeol.",
        is_path=True,
        renamed_from="eojeols",
    )
    sentence_output: str | None = setting(
        None,
        "Another file of the same pass, with one row per sentence.",
        is_path=True,
        renamed_from="sentences",
    )
    plot: str | None = setting(
        None,
        "FILE.png: plot of the surprisal of the first 8 sentences, a bar for each morph or, with "
        "unit=eojeol or sentence, for each eojeol.",
        is_path=True,
    )
    entropy: bool = setting(True, "Compute the entropy of each prediction; false is faster.")
    batch_tokens: int = setting(
        4096,
        "Tokens scored at once, in lines or documents of similar length.",
        unit="tokens",
        min=1,
        max=10_000_000,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plot is not None and not self.plot.endswith(".png"):
            self._fail("plot", "must end in .png")
        paths = [_real_path(path) for path, _ in self.tables().values()]
        for key, (path, _) in self.tables().items():
            if not path.endswith(ENDINGS) and not (key == "output" and path == "-"):
                also = ", or be -" if key == "output" else ""
                self._fail(key, f"must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}{also}")
            if paths.count(_real_path(path)) > 1:
                self._fail(key, "is the file of two tables; give each its own file")

    def tables(self) -> dict[str, tuple[str, ScoreUnit]]:
        """Return the key of each table to write -> its path and the unit of its rows."""
        named = {
            "output": (self.output, self.unit),
            "eojeol_output": (self.eojeol_output, ScoreUnit.eojeol),
            "sentence_output": (self.sentence_output, ScoreUnit.sentence),
        }
        return {key: (path, unit) for key, (path, unit) in named.items() if path is not None}


def _real_path(path: str) -> str:
    """Return one name for one file, however it was written."""
    return path if path == "-" else os.path.realpath(path)
