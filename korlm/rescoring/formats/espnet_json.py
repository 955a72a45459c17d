"""ESPnet1's data.json: one object, ``{"utts": {UTT: {"output": [{"rec_text", "score"}, ...]}}}``.

``asr_recog.py --nbest N`` writes a hypothesis to each element of ``output``, with the reference
under ``text``. In ``rec_text``, <eos> ends the text and ▁ is the space symbol of subword units.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from korlm.rescoring.nbest import Hypothesis, NBest, lines_of, score_of
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import NbestError

OUTPUT, TEXT, REFERENCE = "output", "rec_text", "text"

START = re.compile(r'\{\s*"utts"\s*:')


def read_espnet_json(path: Path, sign: int, score_field: str) -> Iterator[NBest]:
    """Yield the n-best lists of a file; the whole file is loaded into memory.

    Args:
        path: the file.
        sign: -1 if scores are costs.
        score_field: key of the score.

    Raises:
        NbestError: the file has another structure, or a hypothesis has no text or score.
    """
    for utt, record, outputs in _utterances(path):
        hyps = []
        for number, output in enumerate(outputs, 1):
            where = f"{path}: hypothesis {number} of utterance {utt}"
            text = _text(output, TEXT, where)
            text = " ".join(text.removesuffix("<eos>").replace("▁", " ").split())
            score = sign * score_of(output, score_field, where)
            hyps.append(Hypothesis(text, score, utt, output))
        yield NBest(utt, hyps, str(path), record)


def references_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield file, utterance and reference of each utterance."""
    for utt, _, outputs in _utterances(path):
        yield str(path), utt, _text(outputs[0], REFERENCE, f"{path}: utterance {utt}")


def _utterances(path: Path) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Yield name, object and hypotheses of each utterance."""
    try:
        data = json.loads("\n".join(line for _, line in lines_of(path)))
    except (ValueError, RecursionError) as error:
        raise NbestError(f"{path}: is not JSON ({error})") from None
    utterances = data.get("utts") if isinstance(data, dict) else None
    if not isinstance(utterances, dict):
        raise NbestError(f"{path}: no object under 'utts'; ESPnet's data.json has one")
    if has_lone_surrogates(json.dumps(data, ensure_ascii=False)):
        raise NbestError(f"{path}: has a lone surrogate, which UTF-8 cannot encode")
    for utt, record in utterances.items():
        outputs = record.get(OUTPUT) if isinstance(record, dict) else None
        is_list = isinstance(outputs, list) and all(isinstance(output, dict) for output in outputs)
        if not outputs or not is_list:
            raise NbestError(f"{path}: utterance {utt} has no objects under {OUTPUT!r}")
        if utt.split() != [utt]:
            raise NbestError(f"{path}: utterance {utt!r}: the name must not have spaces")
        yield utt, record, outputs


def _text(output: dict[str, Any], key: str, where: str) -> str:
    text = output.get(key)
    if not isinstance(text, str):
        raise NbestError(f"{where}: no text under {key!r} (there is {', '.join(output)})")
    return text
