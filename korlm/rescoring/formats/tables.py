r"""Read tables: lines of a key and the rest, as in the files of Kaldi, ESPnet and icefall.

- Kaldi: lines of ``utterance score text``, or separate files for texts and costs.
  ``nbest-to-linear`` names hypotheses utterance-1, utterance-2, ... and writes words, acoustic
  costs and language model costs to one table each; ``int2sym.pl`` converts the words to text.
- ESPnet: folders 1best_recog, 2best_recog, ..., with the tables ``text`` and ``score``.
  ``asr_inference`` writes them to the folder of each of its jobs, output.1, output.2, ...; the
  folder of one job or of all jobs can be read. An utterance with fewer hypotheses than others is in
  fewer folders; the order of utterances is the same in all of them.
- icefall: recogs files, of lines ``UTT:\tref=[...]`` and ``UTT:\thyp=[...]``. They have references
  and one hypothesis per utterance without a score: they are not n-best lists.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.rescoring.formats.parsing import Row, grouped, lines_of, parse_score
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.utils.errors import NbestError

_LINES = "lines must be 'utterance score text'; scores=FILE reads scores from a file"
_RANK = re.compile(r"(\d+)best_recog")
_RECOGS = re.compile(r"(ref|hyp)=(\[.*\])")


def keyed_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ``file:line``, key and rest (may be empty) of each line of a Kaldi table."""
    for where, line in lines_of(path):
        key, *rest = line.split(maxsplit=1)
        yield where, key, rest[0] if rest else ""


@dataclass(frozen=True)
class CostFile:
    """A table of ``hypothesis score``, and the factor of its scores."""

    path: Path
    scale: float

    def read(self) -> dict[str, float]:
        """Return hypothesis -> scaled score."""
        scores: dict[str, float] = {}
        for where, key, rest in keyed_lines(self.path):
            if key in scores:
                raise NbestError(f"{where}: {key} occurs above already")
            scores[key] = self.scale * parse_score(rest, where)
        return scores


def read_text(
    path: Path, sign: int, numbered: bool, costs: Sequence[CostFile] = ()
) -> Iterator[NBest]:
    """Yield the n-best lists of a file with one hypothesis per line.

    Lines are ``utterance score text``, or without score if there are files of ``costs``, which are
    added up. ``sign`` is -1 if scores are costs. If ``numbered``, hypotheses are named utterance-1,
    utterance-2, ...
    """
    return grouped(_text_rows(path, sign, numbered, costs))


def _text_rows(path: Path, sign: int, numbered: bool, costs: Sequence[CostFile]) -> Iterator[Row]:
    tables = [(cost.path, cost.read()) for cost in costs]
    for where, name, text in keyed_lines(path):
        if tables:
            score = sum(_cost(table, source, name, where) for source, table in tables)
        else:
            if _match_recogs(name, text):
                raise NbestError(
                    f"{where}: icefall's recogs file has one hypothesis per utterance and no "
                    "scores; give n-best lists, and this file as tune= or reference="
                )
            first, *rest = text.split(maxsplit=1) or [""]
            if not first:
                raise NbestError(f"{where}: {name} has no score; {_LINES}")
            try:
                score, text = parse_score(first, where), rest[0] if rest else ""
            except NbestError as error:
                raise NbestError(f"{error}; {_LINES}") from None
        utt = _utterance(name, where) if numbered or tables else name
        yield Row(utt, Hypothesis(text, sign * score, name), where)


def _cost(table: dict[str, float], source: Path, name: str, where: str) -> float:
    if name not in table:
        raise NbestError(f"{where}: {name} has no score in {source}")
    return table[name]


def _utterance(name: str, where: str) -> str:
    utt, _, number = name.rpartition("-")
    if not utt or not number.isdecimal():
        raise NbestError(f"{where}: {name} is not a numbered hypothesis (utterance-1, ...)")
    return utt


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
    folders = {int(m.group(1)): p for p in path.glob("*") if (m := _RANK.fullmatch(p.name))}
    return [folders[rank] for rank in sorted(folders)]


def _read_job(folders: list[Path], sign: int) -> Iterator[NBest]:
    if folders[0].name != "1best_recog":
        raise NbestError(f"{folders[0].parent}: has {folders[0].name} but no 1best_recog")
    streams = [_folder_rows(folder, sign) for folder in folders]
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


def _folder_rows(folder: Path, sign: int) -> Iterator[Row]:
    """Yield one hypothesis per utterance."""
    texts, scores = keyed_lines(folder / "text"), keyed_lines(folder / "score")
    for text, score in itertools.zip_longest(texts, scores):
        if text is None or score is None or text[1] != score[1]:
            where, utt, _ = text or score
            other = folder / ("score" if text else "text")
            raise NbestError(f"{where}: utterance {utt} has no line at this position in {other}")
        where, utt, words = text
        yield Row(utt, Hypothesis(words, sign * parse_score(score[2], score[0]), utt), where)


def references_of_table(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield ``file:line``, utterance and reference of each line, or of each ref= of icefall.

    Raises:
        NbestError: ref= is not followed by a list of words.
    """
    for where, key, rest in keyed_lines(path):
        match = _match_recogs(key, rest)
        if match is None:
            yield where, key, rest
        elif match[1] == "ref":
            try:
                words = ast.literal_eval(match[2])
                yield where, key[:-1], " ".join(words)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                raise NbestError(f"{where}: ref= must be followed by a list of words") from None


def _match_recogs(key: str, rest: str) -> re.Match[str] | None:
    """Match the first word and the rest of a line of a recogs file.

    >>> _match_recogs("u1:", "ref=['나는', '간다']") is not None, _match_recogs("u1", "나는 간다")
    (True, None)
    """
    return _RECOGS.fullmatch(rest) if key.endswith(":") else None
