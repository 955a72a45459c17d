"""Read JSON lines: one object per utterance or per hypothesis.

An utterance is ``{"utt": ..., "hyps": [{"text": ..., "score": ...}, ...]}``, a hypothesis
``{"utt": ..., "text": ..., "score": ...}``. The keys may also be ``id`` and ``nbest``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from korlm.rescoring.formats.parsing import (
    Row,
    grouped,
    lines_of,
    parse_json,
    score_of,
    text_of,
)
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.utils.errors import NbestError

NAMES = ("utt", "id")

LISTS = ("hyps", "nbest")


def read_jsonl(path: Path, sign: int, score_field: str) -> Iterator[NBest]:
    """Yield the n-best lists of a file.

    ``sign`` is -1 if scores are costs.
    """
    records = records_of(path)
    for is_list, group in itertools.groupby(records, lambda item: list_key(item[1]) is not None):
        if is_list:
            for where, record in group:
                yield _parse_list(record, where, sign, score_field)
        else:
            yield from grouped(
                Row(
                    name_of(record, where),
                    _parse_hypothesis(record, where, name_of(record, where), sign, score_field),
                    where,
                )
                for where, record in group
            )


def records_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``file:line`` and object of each line."""
    for where, line in lines_of(path):
        if line in ("{", "["):
            raise NbestError(
                f"{where}: one JSON value over several lines; give JSON lines, one object per "
                "line, or the data.json of ESPnet1"
            )
        record = parse_json(line, where)
        if not isinstance(record, dict):
            raise NbestError(f"{where}: must be an object {{...}}, not {type(record).__name__}")
        yield where, record


def name_of(record: Mapping[str, Any], where: str) -> str:
    """Return the name of the utterance."""
    for key in NAMES:
        value = record.get(key)
        if isinstance(value, (str, int)) and str(value).split() == [str(value)]:
            return str(value)
    raise NbestError(f"{where}: no utterance name without spaces under {' or '.join(NAMES)}")


def list_key(record: Mapping[str, Any]) -> str | None:
    """Return the key of an object's hypotheses; None if it is a hypothesis itself."""
    return next((key for key in LISTS if key in record), None)


def _parse_list(record: Mapping[str, Any], where: str, sign: int, score_field: str) -> NBest:
    utt, key = name_of(record, where), list_key(record)
    assert key is not None
    hyps = record[key]
    if not isinstance(hyps, list) or not hyps:
        raise NbestError(
            f"{where}: {key} of utterance {utt} must be a list of one or more hypotheses"
        )
    parsed = []
    for number, hyp in enumerate(hyps, 1):
        hyp_where = f"{where}: hypothesis {number} of utterance {utt}"
        if not isinstance(hyp, dict):
            raise NbestError(f"{hyp_where}: must be an object {{...}}, not {type(hyp).__name__}")
        parsed.append(_parse_hypothesis(hyp, hyp_where, utt, sign, score_field))
    return NBest(utt, parsed, where, record)


def _parse_hypothesis(
    record: Mapping[str, Any], where: str, utt: str, sign: int, score_field: str
) -> Hypothesis:
    text = text_of(record, "text", where)
    return Hypothesis(text, sign * score_of(record, score_field, where), utt, record)
