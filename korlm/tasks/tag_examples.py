"""Examples of tagging: the token ids of a line, its units and their labels.

A unit is a token or an eojeol. It is marked at its last token, and blanks are part of no unit.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.config import TaggingConfig, TagLabels, TagUnits
from korlm.dataset.batches import sentences_of
from korlm.dataset.prepared import Prepared
from korlm.dataset.storage.id_stream import Ids, IdStream
from korlm.dataset.storage.shards import read_columns, shard_paths
from korlm.detokenizers.alignment import eojeol_spans, token_spans
from korlm.tasks.morpheme_tags import MorphemeTags, tags_of_tokens
from korlm.text.hangul import is_compatibility_jamo, is_syllable
from korlm.text.label_schemes import LabeledSpan
from korlm.tokenizers.analysis import Span
from korlm.tokenizers.columns import list_rows
from korlm.utils.errors import CorpusError

JOINED, SPACED = 0, 1  # labels of task.labels=spaces


@dataclass(frozen=True)
class TaggedLine:
    """A line that is not blank.

    Attributes:
        text: as read.
        ids: (T,), <eos> included; with tags of morphemes (T, 2): id and tag.
        is_unit: bool (T,), True at the last token of each of the U units.
        units: characters of each unit.
        tags: label of each unit; None if the label of the line is not used as tags.
        spans: labeled parts of the text, in characters; None if they are not used.
    """

    text: str
    ids: Ids
    is_unit: npt.NDArray[np.bool_]
    units: list[Span]
    tags: list[str] | None = None
    spans: list[LabeledSpan] | None = None

    @property
    def unit_texts(self) -> list[str]:
        """The text of each unit."""
        return [self.text[begin:end] for begin, end in self.units]

    def unit_spans(self) -> list[LabeledSpan]:
        """Return ``spans`` in units; a unit belongs to the first span that it overlaps."""
        result, free = [], 0
        for begin, end, label in sorted(self.spans or []):
            first = free
            while first < len(self.units) and self.units[first].end <= begin:
                first += 1
            last = first
            while last < len(self.units) and self.units[last].begin < end:
                last += 1
            if last > first:
                result.append(LabeledSpan(first, last, label))
                free = last
        return result

    def char_spans(self, spans: Sequence[LabeledSpan]) -> list[LabeledSpan]:
        """Return spans of units in characters."""
        return [
            LabeledSpan(self.units[begin].begin, self.units[end - 1].end, label)
            for begin, end, label in spans
        ]


def find_units(
    text: str, spans: Sequence[Span], eojeol: Sequence[int], kind: TagUnits
) -> tuple[npt.NDArray[np.bool_], list[Span]]:
    """Find the units of a line.

    Args:
        text: the line.
        spans: characters of each token, (T - 1,); empty for blanks only.
        eojeol: index of the eojeol of each token.
        kind: of the units.

    Returns:
        A mask of the last token of each unit, with <eos> (T,), and the characters of each unit.
    """
    last = [index for index, (begin, end) in enumerate(spans) if end > begin]
    if kind is TagUnits.eojeol:
        after = [*(eojeol[index] for index in last), -1][1:]
        ends = [index for index, other in zip(last, after, strict=True) if eojeol[index] != other]
        written = eojeol_spans(text)
        if len(written) != len(ends):  # the tokenizer has split the text in another way
            firsts = [0, *(index + 1 for index in ends)][:-1]
            written = [
                Span(spans[first].begin, spans[end].end)
                for first, end in zip(firsts, ends, strict=True)
            ]
        last, units = ends, written
    else:
        units = [spans[index] for index in last]
    mask = np.zeros(len(spans) + 1, dtype=bool)
    mask[last] = True
    return mask, units


def lines_of(
    table: pa.Table | pa.RecordBatch,
    ids: Sequence[Ids],
    kind: TagUnits,
    morpheme_tags: MorphemeTags | None = None,
) -> Iterator[TaggedLine | None]:
    """Yield the lines of tokenized text without labels; None for a blank line.

    Args:
        table: with the columns text, morphs, eojeol and status.
        ids: of each line that is not blank.
        kind: of the units.
        morpheme_tags: adds the tags of morphemes to the ids.
    """
    columns = [table.column(name) for name in ("morphs", "eojeol")]
    lists = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
    texts = table.column("text").to_pylist()
    statuses = table.column("status").to_pylist()
    rest = iter(ids)
    repeated = itertools.repeat(None, len(texts))
    tags = repeated if morpheme_tags is None else morpheme_tags.of(texts)
    rows = zip(texts, *map(list_rows, lists), statuses, tags, strict=True)
    for text, tokens, eojeol, status, numbers in rows:
        if status == "empty" or not tokens:
            if status != "empty":  # a line of invisible characters; it has ids (<eos>)
                next(rest)
            yield None
            continue
        line_ids, spans = next(rest), token_spans(text, tokens, eojeol)
        if numbers is not None:
            line_ids = np.column_stack([line_ids, tags_of_tokens(numbers, spans)])
        yield TaggedLine(text, line_ids, *find_units(text, spans, eojeol, kind))


def read_lines(
    prepared: Prepared, split: str, config: TaggingConfig, morpheme_tags: MorphemeTags | None
) -> list[TaggedLine]:
    """Read the lines of a split that are not blank, with their labels.

    Raises:
        PreparedError: the corpus has no labels, or is damaged.
        CorpusError: a label is not a JSON list of [begin, end, label] within the text, or a unit
            has none.
    """
    ids, labels = iter(sentences_of(prepared.ids(split))), iter(prepared.labels(split))
    lines: list[TaggedLine] = []
    number = 0
    for path in shard_paths(prepared.folder / "tokens", split):
        for batch in read_columns(path, ["text", "morphs", "eojeol", "status"]):
            is_blank = [status == "empty" for status in batch.column("status").to_pylist()]
            part = list(itertools.islice(ids, is_blank.count(False)))
            parsed = lines_of(batch, part, config.units, morpheme_tags)
            for line, line_is_blank in zip(parsed, is_blank, strict=True):
                number += 1
                labels_json = "" if line_is_blank else next(labels)
                if line is not None:
                    location = f"{prepared.folder}: line {number} of {split}"
                    lines.append(_with_labels(line, labels_json, config.labels, location))
    return lines


def _with_labels(
    line: TaggedLine, labels_json: str, labels: TagLabels, location: str
) -> TaggedLine:
    """Return a line with its labels; ``labels`` is tags or spans."""
    spans = _parse(labels_json, len(line.text), location)
    if labels is TagLabels.spans:
        return TaggedLine(line.text, line.ids, line.is_unit, line.units, spans=spans)
    tags = []
    first = 0
    for begin, end in line.units:
        while first < len(spans) and spans[first].end <= begin:
            first += 1
        found = itertools.takewhile(lambda span: span.begin < end, spans[first:])  # noqa: B023
        tags.append("+".join(span.label for span in found if span.end > begin))
        if not tags[-1]:
            raise CorpusError(
                f"{location} has no label for {line.text[begin:end]!r}; add it, or give "
                "task.labels=spans if only parts of the text are labeled"
            )
    return TaggedLine(line.text, line.ids, line.is_unit, line.units, tags=tags)


def _parse(labels_json: str, size: int, location: str) -> list[LabeledSpan]:
    """Return the spans of the label of a line, by their offsets."""
    try:
        entries = json.loads(labels_json)
        spans = sorted(LabeledSpan(*entry) for entry in entries)
        valid = isinstance(entries, list) and all(
            type(span.begin) is type(span.end) is int
            and 0 <= span.begin < span.end <= size
            and isinstance(span.label, str)
            for span in spans
        )
    except (ValueError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise CorpusError(
            f"{location} has the label {labels_json!r:.60}, not a list of [begin, end, label] with "
            f"offsets from 0 to {size}; CoNLL files need corpus.format=conll or conllu"
        )
    return spans


def may_need_space(before: str, after: str) -> bool:
    """Return whether a space may be inserted between two characters: one of them is Hangul."""
    return _is_hangul(before) or _is_hangul(after)


def _is_hangul(char: str) -> bool:
    return is_syllable(char) or is_compatibility_jamo(char)


@dataclass(frozen=True)
class SpacedLines:
    """Lines without their blanks.

    Attributes:
        sequences: ids of each line, <eos> included, (T,).
        is_spaced: whether a blank precedes each token, (T,); False for the first one and <eos>.
    """

    sequences: list[Ids]
    is_spaced: list[npt.NDArray[np.bool_]]


def without_blanks(ids: Ids | IdStream, space_id: int) -> SpacedLines:
    """Remove the blanks from the ids of consecutive lines.

    >>> lines = without_blanks(np.array([5, 6, 4, 7, 3, 4, 8, 3]), 4)  # 4 is a blank, 3 is <eos>
    >>> [line.tolist() for line in lines.sequences]
    [[5, 6, 7, 3], [8, 3]]
    >>> [line.tolist() for line in lines.is_spaced]
    [[False, False, True, False], [False, False]]
    """
    sequences, is_spaced = [], []
    for line in sentences_of(ids):
        is_blank = line == space_id
        after_blank = np.concatenate([[False], is_blank[:-1]])[~is_blank]
        after_blank[:1] = after_blank[-1:] = False
        if len(after_blank) > 1:  # not only <eos>
            sequences.append(line[~is_blank])
            is_spaced.append(after_blank)
    return SpacedLines(sequences, is_spaced)
