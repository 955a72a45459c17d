"""Define n-best lists, and iterate over those of a file.

Scores are natural logs: higher is better. The first hypothesis of a list is the recognizer's best.
The hypotheses of an utterance must be adjacent in a file, so that files of any length are read in
constant memory.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from korlm.utils.errors import NbestError


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of an utterance.

    Attributes:
        text: as in the file.
        score: score of the recognizer.
        name: key in the file, of the hypothesis or its utterance.
        fields: the JSON object of the hypothesis, if the file is JSON.
    """

    text: str
    score: float
    name: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NBest:
    """N-best list of one utterance.

    Attributes:
        utt: name of the utterance.
        hyps: at least one, the recognizer's best first.
        where: file and line where it begins.
        fields: the JSON object of the whole list, if there is one.
    """

    utt: str
    hyps: list[Hypothesis]
    where: str = ""
    fields: Mapping[str, Any] | None = None

    @property
    def texts(self) -> list[str]:
        """The text of each hypothesis."""
        return [hyp.text for hyp in self.hyps]


@dataclass(frozen=True)
class NBestLists:
    """N-best lists of a file or folder that can be iterated repeatedly.

    Attributes:
        path: file or folder.
        read_all: reads the lists in their format.
    """

    path: Path
    read_all: Callable[[], Iterator[NBest]]

    def __iter__(self) -> Iterator[NBest]:
        """Read all lists.

        Raises:
            NbestError: names file and line.
        """
        seen: set[str] = set()
        for nbest in self.read_all():
            if nbest.utt in seen:
                raise NbestError(
                    f"{nbest.where}: utterance {nbest.utt} occurs above already; its hypotheses "
                    f"must be adjacent{self._sort_command(nbest)}"
                )
            seen.add(nbest.utt)
            yield nbest
        if not seen:
            raise NbestError(f"{self.path}: contains no hypotheses")

    def _sort_command(self, nbest: NBest) -> str:
        """Return the command that makes hypotheses adjacent and keeps their order."""
        if nbest.hyps[0].fields:  # JSON
            return ", in the recognizer's order"
        # Numbered hypotheses end in -1, ..., -10.
        keys = "-s -k1,1" if nbest.hyps[0].name == nbest.utt else "-V -k1,1"
        return f": sort {keys} {shlex.quote(str(self.path))} keeps their order"

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """The number of hypotheses of each utterance; the first access reads all lists."""
        return {nbest.utt: len(nbest.hyps) for nbest in self}


def batches_of(lists: Iterable[NBest], size: int) -> Iterator[list[NBest]]:
    """Batch lists until they have ``size`` hypotheses or more."""
    batch: list[NBest] = []
    total = 0
    for nbest in lists:
        batch.append(nbest)
        total += len(nbest.hyps)
        if total >= size:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def check_references(utterances: Set[str], references: Mapping[str, str], path: Path) -> int:
    """Return the number of references without a list.

    Raises:
        NbestError: a list has no reference, or all references are empty.
    """
    missing = sorted(utterances - references.keys())
    if missing:
        raise NbestError(
            f"{path}: no reference for {len(missing):,} of {len(utterances):,} utterances, the "
            f"first is {missing[0]}; error rates need a reference for each n-best list"
        )
    if not any(references[utt].strip() for utt in utterances):
        raise NbestError(
            f"{path}: all references are empty, so there are no error rates and nothing to tune "
            "on; give a file with the spoken text"
        )
    return len(references.keys() - utterances)
