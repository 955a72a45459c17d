"""Read Kaldi tables: lines of ``utterance score text``, or separate files for texts and costs.

``nbest-to-linear`` names hypotheses utterance-1, utterance-2, ... and writes words, acoustic costs
and language model costs to one table each; ``int2sym.pl`` converts the words to text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.rescoring.formats.icefall import is_recogs
from korlm.rescoring.formats.parsing import Row, grouped, keyed_lines, parse_score
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.utils.errors import NbestError

_LINES = "lines must be 'utterance score text'; scores=FILE reads scores from a file"


@dataclass(frozen=True)
class CostFile:
    """A table of ``hypothesis score``, and the factor of its scores."""

    path: Path
    scale: float

    def read(self) -> dict[str, float]:
        """Return hypothesis -> scaled score."""
        scores: dict[str, float] = {}
        for where, key, rest in keyed_lines(self.path):
            if key in scores:
                raise NbestError(f"{where}: {key} occurs above already")
            scores[key] = self.scale * parse_score(rest, where)
        return scores


def read_text(
    path: Path, sign: int, numbered: bool, costs: Sequence[CostFile] = ()
) -> Iterator[NBest]:
    """Yield the n-best lists of a file with one hypothesis per line.

    Lines are ``utterance score text``, or without score if there are files of ``costs``, which are
    added up. ``sign`` is -1 if scores are costs. If ``numbered``, hypotheses are named utterance-1,
    utterance-2, ...
    """
    return grouped(_rows(path, sign, numbered, costs))


def _rows(path: Path, sign: int, numbered: bool, costs: Sequence[CostFile]) -> Iterator[Row]:
    tables = [(cost.path, cost.read()) for cost in costs]
    for where, name, text in keyed_lines(path):
        if tables:
            score = sum(_cost(table, source, name, where) for source, table in tables)
        else:
            if is_recogs(name, text):
                raise NbestError(
                    f"{where}: icefall's recogs file has one hypothesis per utterance and no "
                    "scores; give n-best lists, and this file as tune= or reference="
                )
            first, *rest = text.split(maxsplit=1) or [""]
            if not first:
                raise NbestError(f"{where}: {name} has no score; {_LINES}")
            try:
                score, text = parse_score(first, where), rest[0] if rest else ""
            except NbestError as error:
                raise NbestError(f"{error}; {_LINES}") from None
        utt = _utterance(name, where) if numbered or tables else name
        yield Row(utt, Hypothesis(text, sign * score, name), where)


def _cost(table: dict[str, float], source: Path, name: str, where: str) -> float:
    if name not in table:
        raise NbestError(f"{where}: {name} has no score in {source}")
    return table[name]


def _utterance(name: str, where: str) -> str:
    utt, _, number = name.rpartition("-")
    if not utt or not number.isdecimal():
        raise NbestError(f"{where}: {name} is not a numbered hypothesis (utterance-1, ...)")
    return utt
