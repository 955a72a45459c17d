"""Read JSON: lines with one object per utterance or per hypothesis, or ESPnet1's data.json.

In JSON lines, an utterance is ``{"utt": ..., "hyps": [{"text": ..., "score": ...}, ...]}``, a
hypothesis ``{"utt": ..., "text": ..., "score": ...}``. The keys may also be ``id`` and ``nbest``.

data.json is ``{"utts": {UTT: {"output": [{"rec_text", "score"}, ...]}}}``.
``asr_recog.py --nbest N`` writes a hypothesis to each element of ``output``, with the reference
under ``text``. In ``rec_text``, <eos> ends the text and ▁ is the space symbol of subword units.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from korlm.rescoring.formats.parsing import Row, grouped, lines_of, parse_score
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import NbestError

NAMES, LISTS = ("utt", "id"), ("hyps", "nbest")  # keys of JSON lines

OUTPUT, TEXT, REFERENCE = "output", "rec_text", "text"  # keys of data.json
START = re.compile(r'\{\s*"utts"\s*:')


def read_jsonl(path: Path, sign: int, score_field: str) -> Iterator[NBest]:
    """Yield the n-best lists of a file.

    ``sign`` is -1 if scores are costs.
    """
    records = _records_of(path)
    for is_list, group in itertools.groupby(records, lambda item: list_key(item[1]) is not None):
        if is_list:
            for where, record in group:
                yield _parse_list(record, where, sign, score_field)
        else:
            yield from grouped(
                Row(
                    _name_of(record, where),
                    _parse_hypothesis(record, where, _name_of(record, where), sign, score_field),
                    where,
                )
                for where, record in group
            )


def references_of_jsonl(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ``file:line``, utterance and reference of each object."""
    for where, record in _records_of(path):
        yield where, _name_of(record, where), _text_of(record, "text", where)


def _records_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``file:line`` and object of each line."""
    for where, line in lines_of(path):
        if line in ("{", "["):
            raise NbestError(
                f"{where}: one JSON value over several lines; give JSON lines, one object per "
                "line, or the data.json of ESPnet1"
            )
        record = _parse_json(line, where)
        if not isinstance(record, dict):
            raise NbestError(f"{where}: must be an object {{...}}, not {type(record).__name__}")
        yield where, record


def _name_of(record: Mapping[str, Any], where: str) -> str:
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
    utt, key = _name_of(record, where), list_key(record)
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
    text = _text_of(record, "text", where)
    return Hypothesis(text, sign * _score_of(record, score_field, where), utt, record)


def read_espnet_json(path: Path, sign: int, score_field: str) -> Iterator[NBest]:
    """Yield the n-best lists of a file; the whole file is loaded into memory.

    ``sign`` is -1 if scores are costs.

    Raises:
        NbestError: the file has another structure, or a hypothesis has no text or score.
    """
    for utt, record, outputs in _utterances(path):
        hyps = []
        for number, output in enumerate(outputs, 1):
            where = f"{path}: hypothesis {number} of utterance {utt}"
            text = _text_of(output, TEXT, where)
            text = " ".join(text.removesuffix("<eos>").replace("▁", " ").split())
            score = sign * _score_of(output, score_field, where)
            hyps.append(Hypothesis(text, score, utt, output))
        yield NBest(utt, hyps, str(path), record)


def references_of_espnet_json(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield file, utterance and reference of each utterance."""
    for utt, _, outputs in _utterances(path):
        yield str(path), utt, _text_of(outputs[0], REFERENCE, f"{path}: utterance {utt}")


def _utterances(path: Path) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Yield name, object and hypotheses of each utterance."""
    data = _parse_json("\n".join(line for _, line in lines_of(path)), str(path))
    utterances = data.get("utts") if isinstance(data, dict) else None
    if not isinstance(utterances, dict):
        raise NbestError(f"{path}: no object under 'utts'; ESPnet's data.json has one")
    for utt, record in utterances.items():
        outputs = record.get(OUTPUT) if isinstance(record, dict) else None
        is_list = isinstance(outputs, list) and all(isinstance(output, dict) for output in outputs)
        if not outputs or not is_list:
            raise NbestError(f"{path}: utterance {utt} has no objects under {OUTPUT!r}")
        if utt.split() != [utt]:
            raise NbestError(f"{path}: utterance {utt!r}: the name must not have spaces")
        yield utt, record, outputs


def _parse_json(text: str, where: str) -> Any:
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


def _text_of(record: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text of a JSON object.

    Raises:
        NbestError: it has no such key, or its value is not a string.
    """
    text = record.get(key)
    if not isinstance(text, str):
        raise NbestError(f"{where}: no text under {key!r} (there is {', '.join(record)})")
    return text


def _score_of(record: Mapping[str, Any], field: str, where: str) -> float:
    """Return the score of a hypothesis that is a JSON object.

    Raises:
        NbestError: it has no such field, or its value is not a finite number.
    """
    if field not in record:
        raise NbestError(
            f"{where}: no score under {field!r} (there is {', '.join(record)}); set score_field=KEY"
        )
    return parse_score(record[field], where)
