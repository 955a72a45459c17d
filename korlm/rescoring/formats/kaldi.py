"""Kaldi's tables: ``utterance score text`` a line, or texts and costs in files of their own.

``nbest-to-linear`` names hypotheses utterance-1, utterance-2, ... and writes words, acoustic and
language model costs each to a table; ``int2sym.pl`` turns the words into text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.rescoring.formats.icefall import is_recogs
from korlm.rescoring.nbest import Hypothesis, NBest, Row, grouped, keyed_lines, parse_score
from korlm.utils.errors import NbestError


@dataclass(frozen=True)
class CostFile:
    """A table of ``hypothesis score``, and what its scores are multiplied by."""

    path: Path
    scale: float

    def read(self) -> dict[str, float]:
        """Hypothesis -> score times scale."""
        found: dict[str, float] = {}
        for where, key, rest in keyed_lines(self.path):
            if key in found:
                raise NbestError(f"{where}: {key} stands further above as well")
            found[key] = self.scale * parse_score(rest, where)
        return found


def read_text(
    path: Path, sign: int, numbered: bool, costs: Sequence[CostFile] = ()
) -> Iterator[NBest]:
    """N-best lists, one hypothesis a line.

    Args:
        path: of lines ``utterance score text``, without the score if ``costs`` tell it.
        sign: -1 if scores are costs.
        numbered: hypotheses are named utterance-1, utterance-2, ...
        costs: files whose scores are added up.
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
                    f"{where}: icefall's recogs file: it has one hypothesis an utterance and no "
                    "scores; give n-best lists, and this file as tune= or reference="
                )
            first, *rest = text.split(maxsplit=1) or [""]
            if not first:
                raise NbestError(f"{where}: {name} has no score: a line is 'utterance score text'")
            score, text = parse_score(first, where), rest[0] if rest else ""
        utt = _utterance(name, where) if numbered or tables else name
        yield Row(utt, Hypothesis(text, sign * score, name), where)


def _cost(table: dict[str, float], source: Path, name: str, where: str) -> float:
    if name not in table:
        raise NbestError(f"{where}: {name} has no score in {source}")
    return table[name]


def _utterance(name: str, where: str) -> str:
    utt, _, number = name.rpartition("-")
    if not utt or not number.isdecimal():
        raise NbestError(f"{where}: {name} is not named as hypotheses are: utterance-1, ...")
    return utt
