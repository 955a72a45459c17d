"""Parse what the formats have in common: lines, scores, one hypothesis per line."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from korlm.corpus.files import read_lines
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.utils.errors import CorpusError, NbestError

_TENSOR = re.compile(r"tensor\(\s*([^,()\s]+).*\)")


class Row(NamedTuple):
    """A hypothesis from a file with one hypothesis per line."""

    utt: str
    hypothesis: Hypothesis
    where: str


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ``file:line`` and the text, without blanks around it, of each line that is not blank.

    Raises:
        NbestError: the file cannot be read.
    """
    try:
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                yield f"{path}:{number}", line.strip()
    except CorpusError as error:
        # Rescoring has no setting for the format of its files.
        message, *hint = re.split(r"; (?:give )?corpus\.| \(UTF-16 without", str(error))
        raise NbestError(message + "; convert it to UTF-8" * bool(hint)) from error


def parse_score(text: Any, where: str) -> float:
    """Parse a score: a number, or the text form of a PyTorch scalar.

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


def grouped(rows: Iterable[Row]) -> Iterator[NBest]:
    """Group adjacent hypotheses of the same utterance."""
    for utt, group in itertools.groupby(rows, key=attrgetter("utt")):
        adjacent = list(group)
        yield NBest(utt, [row.hypothesis for row in adjacent], adjacent[0].where)
