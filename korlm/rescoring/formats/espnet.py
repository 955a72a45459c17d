"""Read ESPnet's folders 1best_recog, 2best_recog, ..., with the tables ``text`` and ``score``.

``asr_inference`` writes them to the folder of each of its jobs, output.1, output.2, ...; the folder
of one job or of all jobs can be read. An utterance with fewer hypotheses than others is in fewer
folders; the order of utterances is the same in all of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from korlm.rescoring.formats.parsing import Row, keyed_lines, parse_score
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.utils.errors import NbestError

RANK = re.compile(r"(\d+)best_recog")


def read_espnet(path: Path, sign: int) -> Iterator[NBest]:
    """Yield the n-best lists of a folder.

    ``path`` contains 1best_recog or output.1, output.2, ...; ``sign`` is -1 if scores are costs.
    """
    jobs = [path] if _ranks(path) else sorted(filter(_ranks, path.glob("output.*")), key=_number)
    if not jobs:
        raise NbestError(
            f"{path}: has no 1best_recog, neither directly nor in output.1, output.2, ..."
        )
    for job in jobs:
        yield from _read_job(_ranks(job), sign)


def _number(job: Path) -> tuple[int, str]:
    number = job.suffix[1:]
    return (int(number) if number.isdecimal() else 0, job.name)


def _ranks(path: Path) -> list[Path]:
    """Return the existing folders 1best_recog, 2best_recog, ..."""
    folders = {int(m.group(1)): p for p in path.glob("*") if (m := RANK.fullmatch(p.name))}
    return [folders[rank] for rank in sorted(folders)]


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
            f"{head.where}: utterance {head.utt} is missing from {folders[0] / 'text'} or at "
            "another position there"
        )


def _rows(folder: Path, sign: int) -> Iterator[Row]:
    """Yield one hypothesis per utterance."""
    texts, scores = keyed_lines(folder / "text"), keyed_lines(folder / "score")
    for text, score in itertools.zip_longest(texts, scores):
        if text is None or score is None or text[1] != score[1]:
            where, utt, _ = text or score
            other = folder / ("score" if text else "text")
            raise NbestError(f"{where}: utterance {utt} has no line at this position in {other}")
        where, utt, words = text
        yield Row(utt, Hypothesis(words, sign * parse_score(score[2], score[0]), utt), where)
