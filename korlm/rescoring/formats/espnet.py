"""ESPnet's folders: 1best_recog, 2best_recog, ..., each with the tables ``text`` and ``score``.

``asr_inference`` writes them into the folder of each of its jobs, output.1, output.2, ...; so
either is read. An utterance may have fewer hypotheses than others and is then in fewer folders; the
order of utterances is the same in all of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from korlm.rescoring.nbest import Hypothesis, NBest, Row, keyed_lines, parse_score
from korlm.utils.errors import NbestError

RANK = re.compile(r"(\d+)best_recog")


def read_espnet(path: Path, sign: int) -> Iterator[NBest]:
    """N-best lists of a folder.

    Args:
        path: the folder of 1best_recog, or of output.1, output.2, ...
        sign: -1 if scores are costs.
    """
    jobs = [path] if _ranks(path) else sorted(filter(_ranks, path.glob("output.*")), key=_number)
    if not jobs:
        raise NbestError(
            f"{path}: there is no 1best_recog in there, nor in output.1, output.2, ..."
        )
    for job in jobs:
        yield from _read_job(_ranks(job), sign)


def _number(job: Path) -> tuple[int, str]:
    number = job.suffix[1:]
    return (int(number) if number.isdecimal() else 0, job.name)


def _ranks(path: Path) -> list[Path]:
    """1best_recog, 2best_recog, ... as far as they are there."""
    found = {int(m.group(1)): p for p in path.glob("*") if (m := RANK.fullmatch(p.name))}
    return [found[rank] for rank in sorted(found)]


def _read_job(folders: list[Path], sign: int) -> Iterator[NBest]:
    if folders[0].name != "1best_recog":
        raise NbestError(f"{folders[0].parent}: has {folders[0].name} but no 1best_recog")
    streams = [_rows(folder, sign) for folder in folders]
    heads = [next(stream, None) for stream in streams]
    while (first := heads[0]) is not None:
        hyps = []
        for rank, head in enumerate(heads):
            if head is not None and head.utt == first.utt:
                hyps.append(head.hypothesis)
                heads[rank] = next(streams[rank], None)
        yield NBest(first.utt, hyps, first.where)
    for head in filter(None, heads):
        raise NbestError(
            f"{head.where}: utterance {head.utt} is not in {folders[0] / 'text'}, or stands "
            "there in another order"
        )


def _rows(folder: Path, sign: int) -> Iterator[Row]:
    """One hypothesis an utterance."""
    texts, scores = keyed_lines(folder / "text"), keyed_lines(folder / "score")
    for text, score in itertools.zip_longest(texts, scores):
        if text is None or score is None or text[1] != score[1]:
            where, utt, _ = text or score
            other = folder / ("score" if text else "text")
            raise NbestError(f"{where}: utterance {utt} has no line in {other} at this place")
        where, utt, words = text
        yield Row(utt, Hypothesis(words, sign * parse_score(score[2], score[0]), utt), where)
