"""Files -> n-best lists and references, in whatever layout they have."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from korlm.config import ListFormat
from korlm.corpus.files import kind_of
from korlm.rescoring.formats.espnet import read_espnet
from korlm.rescoring.formats.espnet_json import BEGIN, read_espnet_json, references_of
from korlm.rescoring.formats.icefall import icefall_references
from korlm.rescoring.formats.jsonl import name_of, read_jsonl, records_of, text_of
from korlm.rescoring.formats.kaldi import CostFile, read_text
from korlm.rescoring.nbest import Lists, keyed_lines, lines_of
from korlm.utils.errors import ConfigError, NbestError


@dataclass(frozen=True)
class Layout:
    """How lists are to be read.

    Attributes:
        format: text, jsonl, espnet or espnet_json; auto: what it looks like.
        sign: -1 if scores are costs.
        score_field: what a hypothesis in JSON has its score under.
        numbered: hypotheses in text are named utterance-1, utterance-2, ...
        costs: files whose scores are added up, if the text has none.
    """

    format: ListFormat = ListFormat.auto
    sign: int = 1
    score_field: str = "score"
    numbered: bool = False
    costs: Sequence[CostFile] = ()


def format_of(path: Path, wanted: ListFormat = ListFormat.auto) -> ListFormat:
    """How a file or folder is laid out: as it was told, else as it looks.

    Raises:
        NbestError: it is not there.
    """
    if not path.exists():
        raise NbestError(f"{path}: there is no such file or folder")
    if not (path.is_file() or path.is_dir()):
        raise NbestError(f"{path}: is read more than once, as a pipe cannot be; give a file")
    if wanted is not ListFormat.auto:
        return wanted
    if path.is_dir():
        return ListFormat.espnet
    is_json = kind_of(path) in (".jsonl", ".json")
    with contextlib.suppress(NbestError):  # which is raised again when the file is read
        first = [line for _, line in itertools.islice(lines_of(path), 2)]
        if BEGIN.match("".join(first)):
            return ListFormat.espnet_json
        is_json = is_json or first[:1] == ["["] or "".join(first).startswith("{")
    return ListFormat.jsonl if is_json else ListFormat.text


def open_lists(path: Path, layout: Layout = Layout()) -> Lists:
    """N-best lists of a file or folder.

    Raises:
        NbestError: it is not there.
        ConfigError: files of scores beside lists that hold scores themselves.
    """
    found = format_of(path, layout.format)
    if layout.costs and found is not ListFormat.text:
        raise ConfigError(f"scores: only for format=text, but {path} is {found.value}")
    if found is ListFormat.espnet:
        return Lists(path, lambda: read_espnet(path, layout.sign))
    if found is ListFormat.espnet_json:
        return Lists(path, lambda: read_espnet_json(path, layout.sign, layout.score_field))
    if found is ListFormat.jsonl:
        return Lists(path, lambda: read_jsonl(path, layout.sign, layout.score_field))
    return Lists(path, lambda: read_text(path, layout.sign, layout.numbered, layout.costs))


def read_references(path: Path) -> dict[str, str]:
    """Return utterance -> what was said, from any of the formats that hold references.

    These are lines ``utterance text``, JSON lines, ESPnet1's data.json and icefall's recogs files.

    Raises:
        NbestError: naming file and line.
    """
    found: dict[str, str] = {}
    rows: Iterator[tuple[str, str, str]]
    layout = format_of(path)
    if layout is ListFormat.espnet_json:
        rows = references_of(path)
    elif layout is ListFormat.jsonl:
        rows = ((w, name_of(record, w), text_of(record, w)) for w, record in records_of(path))
    else:
        rows = icefall_references(keyed_lines(path))
    for where, utt, text in rows:
        if utt in found:
            raise NbestError(f"{where}: utterance {utt} stands further above as well")
        found[utt] = text
    if not found:
        raise NbestError(f"{path}: there is no reference in there")
    return found
