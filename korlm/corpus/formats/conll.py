r"""Read CoNLL files: one token per line in columns, a blank line after each sentence.

Each sentence becomes one line of text, with a JSON list ``[[begin, end, label], ...]`` in which
begin and end count characters. If all labels of a sentence are O or begin with B-, I-, E- or S-,
the list has its spans with their types; otherwise it has every token with its label.

- CoNLL: columns are separated by tabs or, in a line without tabs, by blanks. Lines before a
  sentence that begin with ``#`` are comments, unless they have as many columns as the tokens.
- CoNLL-U: ten columns with names; comments, empty nodes and multiword tokens are handled as its
  documentation says. The label of a multiword token is the labels of its words, joined by +.
- KLUE's named entities: each sentence has a comment ``## id<tab>text``, and its tokens are the
  characters, including blanks, so that they are joined without blanks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from korlm.config import CorpusFormat, TextConfig
from korlm.corpus.records import Line, Record
from korlm.text.label_schemes import LabelError, Scheme, is_span_label, spans_of
from korlm.utils.errors import CorpusError

CONLLU_COLUMNS = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]


@dataclass
class _Sentence:
    """Tokens of a sentence, with the label and the line number of each.

    Attributes:
        glued: for each token, True if the next one follows without a blank.
        is_klue: True if the tokens are characters, including blanks.
    """

    tokens: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    glued: list[bool] = field(default_factory=list)
    is_klue: bool = False

    def add(self, token: str, label: str, line: int, glued: bool = False) -> None:
        self.tokens.append(token)
        self.labels.append(label)
        self.lines.append(line)
        self.glued.append(glued)


def read_conll(
    path: Path,
    lines: Iterable[Line],
    config: TextConfig,
    file_format: CorpusFormat,
    read_first: Callable[[], Iterable[str]] | None = None,
) -> Iterator[Record]:
    """Yield the sentences of a CoNLL or CoNLL-U file.

    Args:
        path: the file.
        lines: its lines, or those of a part of it that begins with a sentence.
        config: columns of text and label: numbers from 1 or, in CoNLL-U, names.
        file_format: conll or conllu.
        read_first: returns the lines of the file from its beginning; given if ``lines`` do not
            have the first sentence, which determines the number of columns.

    Raises:
        CorpusError: a column is missing, a row has another number of columns than the first one,
            a token is empty, or a label may not follow the previous one.
    """
    if config.keep_columns:
        raise CorpusError(
            f"{path}: corpus.keep_columns is for columns of lines, those of CoNLL belong to tokens"
        )
    is_conllu = file_format is CorpusFormat.conllu
    parse = _parse_conllu if is_conllu else _parse_conll
    num_skipped = 0
    if read_first is not None:
        first = next(parse(path, enumerate(read_first(), 1), config))
        head = itertools.islice(read_first(), first.lines[-1])
        lines = itertools.chain(enumerate([*head, ""], 1), lines)
        num_skipped = 1
    for sentence in itertools.islice(parse(path, lines, config), num_skipped, None):
        yield _record(path, sentence, bool(config.label_column))


def _parse_conll(path: Path, lines: Iterable[Line], config: TextConfig) -> Iterator[_Sentence]:
    text, label = _columns(config, {"text": 0}, {})
    width = first = 0
    for block in _blocks(lines):
        sentence = _Sentence()
        for number, line in block:
            cells = line.split("\t") if "\t" in line else line.split()
            if not sentence.tokens and _is_comment(line, cells, width):
                sentence.is_klue |= line.startswith("## ") and "\t" in line
                continue
            if not width:
                width, first = len(cells), number
            _check_width(path, number, len(cells), first, width)
            for key, index in (("text_column", text), ("label_column", label)):
                if index >= width:
                    raise CorpusError(
                        f"{path}: line {number} has {width} columns, and corpus.{key}="
                        f"{getattr(config, key)}; give the number of a column"
                    )
            token = cells[text]
            _check_cells(path, number, token if sentence.is_klue else token.strip(), cells[label])
            sentence.add(token, cells[label].strip(), number)
        if sentence.tokens:
            yield sentence


def _blocks(lines: Iterable[Line]) -> Iterator[Iterator[Line]]:
    """Yield the lines between blank ones."""
    for is_blank, block in itertools.groupby(lines, key=lambda line: not line[1].strip()):
        if not is_blank:
            yield block


def _is_comment(line: str, cells: list[str], width: int) -> bool:
    """Return True for a comment before a sentence; ``#`` may also be a token with a label."""
    if line.startswith(("## ", "-DOCSTART-")):
        return True
    return line.startswith("#") and len(cells) != width


def _parse_conllu(path: Path, lines: Iterable[Line], config: TextConfig) -> Iterator[_Sentence]:
    names = {name: index for index, name in enumerate(CONLLU_COLUMNS)}
    text, label = _columns(config, {**names, "text": names["form"]}, names)
    for block in _blocks(lines):
        sentence, last_of_range = _Sentence(), 0
        for number, line in block:
            if line.startswith("#"):
                continue
            cells = line.split("\t")
            _check_width(path, number, len(cells), 0, len(CONLLU_COLUMNS))
            first, _, last = cells[0].partition("-")
            if "." in cells[0]:  # an empty node
                continue
            if not first.isdecimal() or (last and not last.isdecimal()):
                raise CorpusError(
                    f"{path}: line {number} has the ID {cells[0]!r}; it must be a number, a range "
                    "such as 3-4, or a decimal such as 3.1"
                )
            glued = "SpaceAfter=No" in cells[9].split("|")
            if last:
                last_of_range = int(last)
                _check_cells(path, number, cells[text].strip(), "_")
                sentence.add(cells[text], "", number, glued)
                continue
            _check_cells(path, number, cells[text].strip(), cells[label])
            if int(first) <= last_of_range:  # a word of the previous token, a multiword token
                parts = [sentence.labels[-1], cells[label]]
                sentence.labels[-1] = "+".join(part for part in parts if part)
            else:
                sentence.add(cells[text], cells[label], number, glued)
        if sentence.tokens:
            yield sentence


def _columns(
    config: TextConfig, text_names: dict[str, int], label_names: dict[str, int]
) -> tuple[int, int]:
    """Return the indices of the columns of text and label; of the text twice without labels."""
    text = _column(config, "text_column", text_names)
    if not config.label_column:
        return text, text
    label = _column(config, "label_column", label_names)
    if label == text:
        raise CorpusError(
            f"corpus.label_column={config.label_column}: this is the column of the text "
            f"(corpus.text_column={config.text_column}); name the column of the labels"
        )
    return text, label


def _column(config: TextConfig, key: str, names: dict[str, int]) -> int:
    """Return the index of the column that a setting names; ``names``: name -> index."""
    name = getattr(config, key)
    if name.isdecimal() and int(name) > 0:
        return int(name) - 1
    if name.lower() in names:
        return names[name.lower()]
    known = f" or one of {', '.join(CONLLU_COLUMNS)}" if len(names) > 1 else ""
    raise CorpusError(
        f"corpus.{key}={name}: the columns of this format have no such name; give a number from 1"
        + known
    )


def _check_width(path: Path, number: int, width: int, first: int, expected: int) -> None:
    if width != expected:
        reason = f"line {first} has {expected}" if first else f"CoNLL-U has {expected}"
        raise CorpusError(
            f"{path}: line {number} has {width} column{'s' * (width != 1)}, {reason}; correct the "
            "line (a blank line ends a sentence)"
        )


def _check_cells(path: Path, number: int, token: str, label: str) -> None:
    for name, cell in (("token", token), ("label", label.strip())):
        if not cell:
            raise CorpusError(f"{path}: line {number} has an empty {name}; correct the line")


def _record(path: Path, sentence: _Sentence, has_labels: bool) -> Record:
    """Return a sentence as text, with its labels as JSON."""
    text, offsets = "", []
    for token, glued in zip(sentence.tokens, sentence.glued, strict=True):
        offsets.append((len(text), len(text) + len(token)))
        text += token if glued or sentence.is_klue else token + " "
    text = text if sentence.is_klue else text.rstrip()
    if not has_labels:
        return Record(text)
    labels = sentence.labels
    if all(map(is_span_label, labels)):
        is_bioes = any(label.startswith(("E-", "S-")) for label in labels)
        try:
            spans = spans_of(labels, Scheme.bioes if is_bioes else Scheme.bio, strict=True)
        except LabelError as error:
            line = sentence.lines[error.index]
            raise CorpusError(f"{path}: line {line}: {error}; correct the labels") from None
        units = [(offsets[begin][0], offsets[end - 1][1], kind) for begin, end, kind in spans]
    else:
        units = [(*offset, label) for offset, label in zip(offsets, labels, strict=True)]
    return Record(text, annotation=json.dumps(units, ensure_ascii=False, separators=(",", ":")))
