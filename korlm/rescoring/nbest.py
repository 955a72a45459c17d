"""N-best lists, and what their file formats have in common.

Scores are natural logs: higher is better. The first hypothesis of a list is the recognizer's best.
The hypotheses of an utterance must be adjacent in a file, so that files of any length are read in
constant memory.
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
    """One hypothesis of an utterance.

    Attributes:
        text: as in the file.
        score: of the recognizer.
        name: key in the file, of the hypothesis or its utterance.
        fields: the JSON object of the hypothesis, if the file is JSON.
    """

    text: str
    score: float
    name: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NBest:
    """N-best list of one utterance.

    Attributes:
        utt: name of the utterance.
        hyps: at least one, the recognizer's best first.
        where: file and line where it begins.
        fields: the JSON object of the whole list, if there is one.
    """

    utt: str
    hyps: list[Hypothesis]
    where: str = ""
    fields: Mapping[str, Any] | None = None


class Row(NamedTuple):
    """A hypothesis from a file with one hypothesis per line."""

    utt: str
    hypothesis: Hypothesis
    where: str


def parse_score(text: Any, where: str) -> float:
    """Parse a score: a number, or the text form of a PyTorch scalar.

    Args:
        text: the score.
        where: file and line, for messages.

    Raises:
        NbestError: it is not a finite number.

    >>> parse_score("tensor(-12.5, device='cuda:0')", "score:1")
    -12.5
    """
    number = text
    if isinstance(text, str) and (match := _TENSOR.fullmatch(text.strip())):
        number = match.group(1)
    try:
        if isinstance(number, bool):
            raise ValueError
        score = float(number)
    except (TypeError, ValueError, OverflowError):
        raise NbestError(f"{where}: the score {text!r} is not a number") from None
    if not math.isfinite(score):
        raise NbestError(f"{where}: the score is {score}; it must be finite")
    return score


def score_of(record: Mapping[str, Any], field: str, where: str) -> float:
    """Return the score of a hypothesis that is a JSON object.

    Raises:
        NbestError: it has no such field, or its value is not a finite number.
    """
    if field not in record:
        raise NbestError(
            f"{where}: no score under {field!r} (there is {', '.join(record)}); set score_field=KEY"
        )
    return parse_score(record[field], where)


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ``file:line`` and text of each line that is not blank.

    Raises:
        NbestError: the file cannot be read.
    """
    try:
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                yield f"{path}:{number}", line.strip()
    except CorpusError as error:
        message, *hint = str(error).split("; corpus.encoding=")  # rescore has no such setting
        raise NbestError(message + "; convert it to UTF-8" * bool(hint)) from error


def keyed_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ``file:line``, key and rest (may be empty) of each line of a Kaldi table."""
    for where, line in lines_of(path):
        key, *rest = line.split(maxsplit=1)
        yield where, key, rest[0] if rest else ""


def grouped(rows: Iterable[Row]) -> Iterator[NBest]:
    """Group adjacent hypotheses of the same utterance."""
    for utt, group in itertools.groupby(rows, key=itemgetter(0)):
        first, *others = group
        yield NBest(utt, [row.hypothesis for row in (first, *others)], first.where)


@dataclass(frozen=True)
class NBestLists:
    """N-best lists of a file or folder that can be iterated repeatedly.

    Attributes:
        path: file or folder.
        read_all: reads the lists in their format.
    """

    path: Path
    read_all: Callable[[], Iterator[NBest]]

    def __iter__(self) -> Iterator[NBest]:
        """Read all lists.

        Raises:
            NbestError: names file and line.
        """
        seen: set[str] = set()
        for nbest in self.read_all():
            if nbest.utt in seen:
                raise NbestError(
                    f"{nbest.where}: utterance {nbest.utt} occurs above already; its hypotheses "
                    f"must be adjacent{self._sort_command(nbest)}"
                )
            seen.add(nbest.utt)
            yield nbest
        if not seen:
            raise NbestError(f"{self.path}: contains no hypotheses")

    def _sort_command(self, nbest: NBest) -> str:
        """Return the command that makes hypotheses adjacent and keeps their order."""
        if nbest.hyps[0].fields:  # JSON
            return ", in the recognizer's order"
        # Numbered hypotheses end in -1, ..., -10.
        keys = "-s -k1,1" if nbest.hyps[0].name == nbest.utt else "-V -k1,1"
        return f": sort {keys} {shlex.quote(str(self.path))} keeps their order"

    def size(self) -> tuple[set[str], int]:
        """Return the names of all utterances and the number of hypotheses."""
        utterances, num_hyps = set(), 0
        for nbest in self:
            utterances.add(nbest.utt)
            num_hyps += len(nbest.hyps)
        return utterances, num_hyps


def batches_of(lists: Iterable[NBest], size: int) -> Iterator[list[NBest]]:
    """Batch lists until they have ``size`` hypotheses or more."""
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
    """Return the number of references without a list.

    Raises:
        NbestError: a list has no reference, or all references are empty.
    """
    missing = sorted(utterances - references.keys())
    if missing:
        raise NbestError(
            f"{path}: no reference for {len(missing):,} of {len(utterances):,} utterances, the "
            f"first is {missing[0]}; error rates need a reference for each n-best list"
        )
    if not any(references[utt].strip() for utt in utterances):
        raise NbestError(
            f"{path}: all references are empty, so there are no error rates and nothing to tune "
            "on; give a file with the spoken text"
        )
    return len(references.keys() - utterances)
