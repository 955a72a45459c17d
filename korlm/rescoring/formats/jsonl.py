"""JSON lines: an object for each utterance or for each hypothesis.

``{"utt": ..., "hyps": [{"text": ..., "score": ...}, ...]}`` is the one, ``{"utt": ..., "text": ...,
"score": ...}`` the other; ``id`` and ``nbest`` will do as names as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from korlm.rescoring.nbest import Hypothesis, NBest, Row, grouped, lines_of, parse_score
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import NbestError

NAMES = ("utt", "id")


LISTS = ("hyps", "nbest")


def read_jsonl(path: Path, sign: int, score_field: str) -> Iterator[NBest]:
    """N-best lists of a file.

    Args:
        path: of the file.
        sign: -1 if scores are costs.
        score_field: what a hypothesis has its score under.
    """

    def rows() -> Iterator[Row | NBest]:
        for where, record in records_of(path):
            utt = name_of(record, where)
            key = list_key(record)
            if key is None:
                yield Row(utt, _hypothesis(record, where, utt, sign, score_field), where)
            else:
                yield _list(record, key, where, utt, sign, score_field)

    waiting: list[Row] = []
    for row in rows():
        if isinstance(row, Row) and (not waiting or waiting[-1].utt == row.utt):
            waiting.append(row)
            continue
        yield from grouped(waiting)
        waiting = [row] if isinstance(row, Row) else []
        if isinstance(row, NBest):
            yield row
    yield from grouped(waiting)


def records_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file, each with ``file:line`` before it."""
    for where, line in lines_of(path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if line in ("{", "["):
                raise NbestError(
                    f"{where}: one JSON value over several lines; JSON lines, with a whole object "
                    "on each, or the data.json of ESPnet1 are expected"
                ) from None
            raise NbestError(f"{where}: is not JSON ({error})") from None
        if has_lone_surrogates(json.dumps(record, ensure_ascii=False)):
            raise NbestError(f"{where}: holds half a surrogate pair, which no UTF-8 file can hold")
        if not isinstance(record, dict):
            raise NbestError(f"{where}: must be an object {{...}}, not {type(record).__name__}")
        yield where, record


def name_of(record: Mapping[str, Any], where: str) -> str:
    """The utterance that an object is about."""
    for key in NAMES:
        value = record.get(key)
        if isinstance(value, (str, int)) and str(value).split() == [str(value)]:
            return str(value)
    raise NbestError(f"{where}: no utterance under {' or '.join(NAMES)}, a name without blanks")


def text_of(record: Mapping[str, Any], where: str) -> str:
    """What was said, according to an object."""
    text = record.get("text")
    if not isinstance(text, str):
        raise NbestError(f"{where}: no text under 'text' (there is {', '.join(record)})")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise NbestError(f"{where}: the text has half a surrogate pair, which no file can hold")
    return text


def list_key(record: Mapping[str, Any]) -> str | None:
    """Where an object has its hypotheses; None: it is one."""
    return next((key for key in LISTS if key in record), None)


def _list(
    record: Mapping[str, Any], key: str, where: str, utt: str, sign: int, score_field: str
) -> NBest:
    hyps = record[key]
    if not isinstance(hyps, list) or not hyps:
        raise NbestError(
            f"{where}: {key} of utterance {utt} must be a list of hypotheses, not empty"
        )
    found = []
    for number, hyp in enumerate(hyps, 1):
        place = f"{where}: hypothesis {number} of utterance {utt}"
        if not isinstance(hyp, dict):
            raise NbestError(f"{place}: must be an object {{...}}, not {type(hyp).__name__}")
        found.append(_hypothesis(hyp, place, utt, sign, score_field))
    return NBest(utt, found, where, record)


def _hypothesis(
    record: Mapping[str, Any], where: str, utt: str, sign: int, score_field: str
) -> Hypothesis:
    text = text_of(record, where)
    if score_field not in record:
        raise NbestError(
            f"{where}: no score under {score_field!r} (there is {', '.join(record)}); "
            "score_field=KEY names another one"
        )
    return Hypothesis(text, sign * parse_score(record[score_field], where), utt, record)
