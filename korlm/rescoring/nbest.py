"""N-best lists: what they are, and where they come from.

A hypothesis has a score, a natural log: the more, the better. The first one of a list is the
recogniser's own choice. The hypotheses of an utterance follow each other, so that files of any
length are read in little memory.
"""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from korlm.corpus.files import read_lines
from korlm.utils.errors import CorpusError, NbestError

_TENSOR = re.compile(r"tensor\(\s*([^,()\s]+).*\)")


@dataclass(frozen=True)
class Hypothesis:
    """One text that may have been said.

    Attributes:
        text: as it was given.
        score: of the recogniser.
        name: of the hypothesis or its utterance, as the file has it.
        fields: the whole JSON object, of lists that came as JSON.
    """

    text: str
    score: float
    name: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NBest:
    """What an utterance may have been.

    Attributes:
        utt: its name.
        hyps: at least one, the recogniser's choice first.
        where: file and line it begins at.
        fields: the JSON object that held them all; None: there was none.
    """

    utt: str
    hyps: list[Hypothesis]
    where: str = ""
    fields: Mapping[str, Any] | None = None


class Row(NamedTuple):
    """A hypothesis that stands on a line of its own."""

    utt: str
    hypothesis: Hypothesis
    where: str


def parse_score(text: Any, where: str) -> float:
    """A score as recognisers write it: a number, or PyTorch's way to show one.

    Raises:
        NbestError: it is no number, or none that is finite.

    >>> parse_score("tensor(-12.5, device='cuda:0')", "score:1")
    -12.5
    """
    found = text
    if isinstance(text, str) and (match := _TENSOR.fullmatch(text.strip())):
        found = match.group(1)
    try:
        if isinstance(found, bool):
            raise ValueError
        score = float(found)
    except (TypeError, ValueError, OverflowError):
        raise NbestError(f"{where}: the score {text!r} is not a number") from None
    if not math.isfinite(score):
        raise NbestError(f"{where}: the score is {score}; it must be finite, mend or leave it out")
    return score


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file that are not blank, each with ``file:line`` before it.

    Raises:
        NbestError: the file cannot be read.
    """
    try:
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                yield f"{path}:{number}", line.strip()
    except CorpusError as error:
        told, *advice = str(error).split("; corpus.encoding=")  # a setting that is not here
        raise NbestError(told + "; turn it into UTF-8 first" * bool(advice)) from error


def keyed_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """The lines of one of Kaldi's tables: ``file:line``, key, what follows it; may be empty."""
    for where, line in lines_of(path):
        key, *rest = line.split(maxsplit=1)
        yield where, key, rest[0] if rest else ""


def grouped(rows: Iterable[Row]) -> Iterator[NBest]:
    """Hypotheses on lines of their own -> a list for each utterance."""
    for utt, own in itertools.groupby(rows, key=itemgetter(0)):
        first, *others = own
        yield NBest(utt, [row.hypothesis for row in (first, *others)], first.where)


@dataclass(frozen=True)
class Lists:
    """N-best lists that can be read again and again.

    Attributes:
        path: of the file or folder.
        read_all: reads them as they are laid out.
    """

    path: Path
    read_all: Callable[[], Iterator[NBest]]

    def __iter__(self) -> Iterator[NBest]:
        """Reads them from the beginning.

        Raises:
            NbestError: naming file and line.
        """
        seen: set[str] = set()
        for nbest in self.read_all():
            if nbest.utt in seen:
                raise NbestError(
                    f"{nbest.where}: utterance {nbest.utt} stands further above as well; its "
                    f"hypotheses must follow each other{self._sort_command(nbest)}"
                )
            seen.add(nbest.utt)
            yield nbest
        if not seen:
            raise NbestError(f"{self.path}: there is no hypothesis in there")

    def _sort_command(self, nbest: NBest) -> str:
        """Return the command that brings hypotheses together and keeps their order."""
        if nbest.hyps[0].fields:  # JSON
            return ", in the recogniser's order"
        # Names end in -1, ..., -10 where hypotheses are numbered.
        keys = "-s -k1,1" if nbest.hyps[0].name == nbest.utt else "-V -k1,1"
        return f": sort {keys} {shlex.quote(str(self.path))} keeps their order"

    def size(self) -> tuple[set[str], int]:
        """Reads them through: the utterances, and the number of hypotheses."""
        utterances, num_hyps = set(), 0
        for nbest in self:
            utterances.add(nbest.utt)
            num_hyps += len(nbest.hyps)
        return utterances, num_hyps


def batches_of(lists: Iterable[NBest], size: int) -> Iterator[list[NBest]]:
    """Lists together until they have ``size`` hypotheses or more."""
    batch: list[NBest] = []
    total = 0
    for nbest in lists:
        batch.append(nbest)
        total += len(nbest.hyps)
        if total >= size:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def check_references(utterances: set[str], references: Mapping[str, str], path: Path) -> int:
    """How many references have no list; refuses lists without a reference.

    Raises:
        NbestError: naming the first of them, or no reference has any text.
    """
    missing = sorted(utterances - references.keys())
    if missing:
        raise NbestError(
            f"{path}: no reference for {len(missing):,} of {len(utterances):,} utterances, the "
            f"first is {missing[0]}; error rates need one for each n-best list"
        )
    if not any(references[utt].strip() for utt in utterances):
        raise NbestError(
            f"{path}: no reference has any text, so that there are no error rates and nothing to "
            "tune on; give a file with what was said"
        )
    return len(references.keys() - utterances)
