"""Read n-best lists and references; the format is detected."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.config import ListFormat
from korlm.corpus.files import kind_of
from korlm.rescoring.formats.json_lists import (
    START,
    read_espnet_json,
    read_jsonl,
    references_of_espnet_json,
    references_of_jsonl,
)
from korlm.rescoring.formats.parsing import lines_of
from korlm.rescoring.formats.tables import (
    CostFile,
    read_espnet,
    read_text,
    references_of_table,
)
from korlm.rescoring.nbest import NBestLists
from korlm.utils.errors import ConfigError, NbestError


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading n-best lists.

    Attributes:
        format: text, jsonl, espnet or espnet_json; auto: detected.
        sign: -1 if scores are costs.
        score_field: key of the score in JSON.
        numbered: hypotheses in text are named utterance-1, utterance-2, ...
        costs: files whose scores are added up, for text without scores.
    """

    format: ListFormat = ListFormat.auto
    sign: int = 1
    score_field: str = "score"
    numbered: bool = False
    costs: Sequence[CostFile] = ()


def detect_format(path: Path, given: ListFormat = ListFormat.auto) -> ListFormat:
    """Return the given format of a file or folder, or detect it.

    Raises:
        NbestError: the path does not exist or is a pipe.
    """
    if not path.exists():
        raise NbestError(f"{path}: no such file or folder")
    if not (path.is_file() or path.is_dir()):
        raise NbestError(f"{path}: a pipe cannot be read twice; give a file")
    if given is not ListFormat.auto:
        return given
    if path.is_dir():
        return ListFormat.espnet
    is_json = kind_of(path) in (".jsonl", ".json")
    with contextlib.suppress(NbestError):  # is raised again when the file is read
        lines = [line for _, line in itertools.islice(lines_of(path), 2)]
        if START.match("".join(lines)):
            return ListFormat.espnet_json
        is_json = is_json or lines[:1] == ["["] or "".join(lines).startswith("{")
    return ListFormat.jsonl if is_json else ListFormat.text


def open_lists(path: Path, options: ReadOptions = ReadOptions()) -> NBestLists:
    """Open the n-best lists of a file or folder.

    Raises:
        NbestError: the path does not exist.
        ConfigError: cost files were given for a format that has scores.
    """
    sign, score_field = options.sign, options.score_field
    list_format = detect_format(path, options.format)
    if options.costs and list_format is not ListFormat.text:
        raise ConfigError(f"scores: only for format=text, but {path} is {list_format.value}")
    if list_format is ListFormat.espnet:
        return NBestLists(path, lambda: read_espnet(path, sign))
    if list_format is ListFormat.espnet_json:
        return NBestLists(path, lambda: read_espnet_json(path, sign, score_field))
    if list_format is ListFormat.jsonl:
        return NBestLists(path, lambda: read_jsonl(path, sign, score_field))
    return NBestLists(path, lambda: read_text(path, sign, options.numbered, options.costs))


def read_references(path: Path) -> dict[str, str]:
    """Return utterance -> reference text.

    References are lines of ``utterance text``, JSON lines, ESPnet1's data.json or icefall's recogs
    files.

    Raises:
        NbestError: names file and line.
    """
    references: dict[str, str] = {}
    readers = {
        ListFormat.espnet_json: references_of_espnet_json,
        ListFormat.jsonl: references_of_jsonl,
    }
    for where, utt, text in readers.get(detect_format(path), references_of_table)(path):
        if utt in references:
            raise NbestError(f"{where}: utterance {utt} occurs above already")
        references[utt] = text
    if not references:
        raise NbestError(f"{path}: contains no references")
    return references
