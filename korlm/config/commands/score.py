"""Settings of the surprisal of a text."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass

from korlm.config.commands.inference import TextInputSettings
from korlm.config.registry import register
from korlm.config.validation import setting

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


@register("", "score")
@dataclass
class ScoreSettings(TextInputSettings):
    r"""Compute the surprisal of every morph, eojeol or sentence of a text.

    Tokenizes any Korean text with the tokenizer of the run. Each morph has a row, and so has the
    end of each sentence (<eos>), with these columns:

      doc_id line        document and line; blank lines are counted, but have no rows
      eojeol             index in the line of the eojeol (unit between blanks), and its text
      eojeol_text
      morph tag
      surprisal          -log2 p, in bits
      entropy            of the predicted distribution, in bits
      unknown            whether the vocabulary lacks the morph: its surprisal is that of <unk>
      open_surprisal     includes the cost of spelling what the id does not determine, and is
                         comparable between vocabularies

    unit=eojeol and unit=sentence give sums; the entropy of an eojeol is that of its first morph.
    All sums over a text are equal, <eos> included. The surprisal of probability 0 is inf.

      python -m korlm.score run=outputs/runs/DIR input=book.txt                   one row per morph
      python -m korlm.score run=outputs/runs/DIR input=book.txt unit=eojeol       one per eojeol
      python -m korlm.score run=outputs/runs/DIR input=book.txt context=document  longer context
      python -m korlm.score run=outputs/runs/DIR input='news/*.txt' output=news.parquet \
          eojeol_output=eojeols.parquet sentence_output=sentences.parquet         all at once
      python -m korlm.score run=outputs/runs/DIR input=items.tsv corpus.text_column=sentence
      echo 나는 학교에 간다. | python -m korlm.score run=outputs/runs/DIR input=-

    TSV has no quotes: tab, line end and backslash in a cell are written \t, \n, \r and \\; read
    it with pandas.read_csv(FILE, sep="\t", quoting=3), or use Parquet.
    """

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
