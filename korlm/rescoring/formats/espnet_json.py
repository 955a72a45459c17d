"""Read ESPnet1's data.json: ``{"utts": {UTT: {"output": [{"rec_text", "score"}, ...]}}}``.

``asr_recog.py --nbest N`` writes a hypothesis to each element of ``output``, with the reference
under ``text``. In ``rec_text``, <eos> ends the text and ▁ is the space symbol of subword units.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from korlm.rescoring.formats.parsing import lines_of, parse_json, score_of, text_of
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.utils.errors import NbestError

OUTPUT, TEXT, REFERENCE = "output", "rec_text", "text"

START = re.compile(r'\{\s*"utts"\s*:')


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
            text = text_of(output, TEXT, where)
            text = " ".join(text.removesuffix("<eos>").replace("▁", " ").split())
            score = sign * score_of(output, score_field, where)
            hyps.append(Hypothesis(text, score, utt, output))
        yield NBest(utt, hyps, str(path), record)


def references_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield file, utterance and reference of each utterance."""
    for utt, _, outputs in _utterances(path):
        yield str(path), utt, text_of(outputs[0], REFERENCE, f"{path}: utterance {utt}")


def _utterances(path: Path) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    """Yield name, object and hypotheses of each utterance."""
    data = parse_json("\n".join(line for _, line in lines_of(path)), str(path))
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
