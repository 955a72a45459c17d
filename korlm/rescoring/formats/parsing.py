"""Parse what the formats have in common: lines, scores, JSON, one hypothesis per line."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from korlm.corpus.files import read_lines
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import CorpusError, NbestError

_TENSOR = re.compile(r"tensor\(\s*([^,()\s]+).*\)")


class Row(NamedTuple):
    """A hypothesis from a file with one hypothesis per line."""

    utt: str
    hypothesis: Hypothesis
    where: str


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


def parse_json(text: str, where: str) -> Any:
    """Parse a JSON value.

    Raises:
        NbestError: the text is not JSON, or has a lone surrogate.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NbestError(f"{where}: is not JSON ({error})") from None
    if has_lone_surrogates(json.dumps(value, ensure_ascii=False)):
        raise NbestError(f"{where}: has a lone surrogate, which UTF-8 cannot encode")
    return value


def text_of(record: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text of a JSON object.

    Raises:
        NbestError: it has no such key, or its value is not a string.
    """
    text = record.get(key)
    if not isinstance(text, str):
        raise NbestError(f"{where}: no text under {key!r} (there is {', '.join(record)})")
    return text


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


def grouped(rows: Iterable[Row]) -> Iterator[NBest]:
    """Group adjacent hypotheses of the same utterance."""
    for utt, group in itertools.groupby(rows, key=attrgetter("utt")):
        adjacent = list(group)
        yield NBest(utt, [row.hypothesis for row in adjacent], adjacent[0].where)
