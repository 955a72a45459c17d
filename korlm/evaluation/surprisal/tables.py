"""Build surprisal tables with a row per morph, eojeol or sentence.

All tables of a text have the same total surprisal: <eos> has its own row, without an eojeol, in
tables of morphs and eojeols, and is part of the sum of its sentence. Numbers of lines, eojeols,
positions and characters start at 1, as in R. ``entropy`` is that of the prediction of the token, of
an eojeol that of its first token.

Axes: N tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config import ScoreUnit
from korlm.corpus.normalization import normalize_all
from korlm.dataset.storage.shards import SCHEMA
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import EOS, EOS_ID
from korlm.detokenizers.alignment import eojeol_spans, token_spans
from korlm.evaluation.surprisal.frequencies import TrainCounts
from korlm.evaluation.surprisal.scorer import SurprisalBatch
from korlm.evaluation.token_scores import Ints, segment_sums
from korlm.text.eojeol import split_units

_SYLLABLES = "[가-힣]"
_SHARED_FIELDS = [  # of the tables of morphs and eojeols
    ("char_begin", pa.int64()),
    ("char_end", pa.int64()),
    ("num_syllables", pa.int64()),
    ("log_frequency", pa.float64()),
    ("previous_surprisal", pa.float64()),
    ("previous_num_syllables", pa.int64()),
    ("previous_log_frequency", pa.float64()),
]
_LINE_FIELDS = [("doc_id", pa.string()), ("line", pa.int64())]
_EOJEOL_FIELDS = [*_LINE_FIELDS, ("eojeol", pa.int32()), ("eojeol_text", pa.string())]
_SCHEMAS = {
    ScoreUnit.morph: pa.schema(
        [
            *_EOJEOL_FIELDS,
            ("morph", pa.string()),
            ("tag", pa.string()),
            ("surprisal", pa.float64()),
            ("entropy", pa.float64()),
            ("unknown", pa.bool_()),
            ("open_surprisal", pa.float64()),
            ("position", pa.int64()),
            ("position_in_eojeol", pa.int64()),
            *_SHARED_FIELDS,
        ]
    ),
    ScoreUnit.eojeol: pa.schema(
        [
            *_EOJEOL_FIELDS,
            ("morphs", pa.string()),
            ("num_tokens", pa.int64()),
            ("num_unk", pa.int64()),
            ("surprisal", pa.float64()),
            ("entropy", pa.float64()),
            ("open_surprisal", pa.float64()),
            *_SHARED_FIELDS,
        ]
    ),
    ScoreUnit.sentence: pa.schema(
        [
            *_LINE_FIELDS,
            ("text", pa.string()),
            ("status", pa.string()),
            ("num_eojeol", pa.int64()),
            ("num_chars", pa.int64()),
            ("num_tokens", pa.int64()),
            ("num_unk", pa.int64()),
            ("surprisal", pa.float64()),
            ("open_surprisal", pa.float64()),
            ("num_syllables", pa.int64()),
        ]
    ),
}
_RESERVED_NAMES = {*SCHEMA.names, *(name for schema in _SCHEMAS.values() for name in schema.names)}


def kept_columns(names: Iterable[str]) -> dict[str, str]:
    """Return the columns of the input that tables keep: name in the tables -> name in the input.

    >>> kept_columns(["item", "line"])
    {'item': 'item', 'input_line': 'line'}
    """
    columns: dict[str, str] = {}
    for name in dict.fromkeys(names):
        kept = name
        while kept in _RESERVED_NAMES or kept in columns:
            kept = f"input_{kept}"
        columns[kept] = name
    return columns


def schema_of(unit: ScoreUnit, entropy: bool, kept: Iterable[str] = ()) -> pa.Schema:
    """Return the columns of a table, with or without ``entropy``; those of the input are last."""
    fields = [field for field in _SCHEMAS[unit] if entropy or field.name != "entropy"]
    return pa.schema([*fields, *(pa.field(name, pa.string()) for name in kept)])


def rows_of(batch: SurprisalBatch, unit: ScoreUnit, counts: TrainCounts) -> pa.Table:
    """Return the rows of a window of text, with the columns of ``schema_of``.

    Columns of the lines that are not in ``SCHEMA`` are copied.
    """
    lines = batch.lines
    kept = [name for name in lines.table.column_names if name not in SCHEMA.names]
    if unit is ScoreUnit.sentence:
        line_index = np.flatnonzero(lines.lengths)
        columns = _sentence_columns(batch, line_index)
    else:
        line_index = np.repeat(np.arange(len(lines.lengths)), lines.lengths)
        tokens = _token_columns(lines, line_index)
        if unit is ScoreUnit.morph:
            columns = _morph_columns(batch, tokens, line_index, counts)
        else:
            columns, line_index = _eojeol_columns(batch, tokens, line_index, counts)
    for name in ("doc_id", "line", *kept):
        columns[name] = lines.table.column(name).take(pa.array(line_index))
    schema = schema_of(unit, batch.entropy is not None, kept)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _token_columns(lines: EncodedText, line_index: Ints) -> dict[str, Any]:
    """Return the columns of tokens that tables of morphs and eojeols have in common.

    ``line_index`` (N,) is the index of each token's line.
    """
    indices = _morph_indices(lines.lengths)
    eojeol = _flat(lines.table, "eojeol").take(indices)
    texts = lines.table.column("text").to_pylist()
    num_units, units = split_units(normalize_all(texts, lines.unicode))
    starts = np.cumsum(num_units) - num_units
    unit_indices = pc.add(pa.array(starts[line_index]), eojeol.cast(pa.int64()))
    return {
        "indices": indices,
        "num_units": num_units,
        "unit_indices": unit_indices,
        "eojeol": pc.add(eojeol, 1),
        "eojeol_text": units.take(unit_indices),
        "morph": _flat(lines.table, "morphs").take(indices).fill_null(EOS),
        "tag": _flat(lines.table, "tags").take(indices),
        "is_end": pa.array(lines.ids == EOS_ID),
    }


def _morph_columns(
    batch: SurprisalBatch, tokens: dict[str, Any], line_index: Ints, counts: TrainCounts
) -> dict[str, Any]:
    lines = batch.lines
    begins = _changes(line_index)
    in_eojeol = _positions_in_groups(_changes(line_index, tokens["eojeol"].fill_null(0).to_numpy()))
    spans = _span_columns(_token_spans(lines), tokens["indices"])
    token_counts = counts.tokens[lines.ids]
    syllables = pc.count_substring_regex(tokens["morph"], _SYLLABLES)
    return {
        **tokens,
        "surprisal": batch.surprisal,
        "entropy": batch.entropy,
        "unknown": batch.unknown,
        "open_surprisal": batch.open_surprisal,
        "position": _positions_in_groups(begins),
        "position_in_eojeol": pc.if_else(tokens["is_end"], None, pa.array(in_eojeol)),
        **spans,
        **_predictors(begins, tokens["is_end"], batch.surprisal, syllables, token_counts),
    }


def _eojeol_columns(
    batch: SurprisalBatch, tokens: dict[str, Any], line_index: Ints, counts: TrainCounts
) -> tuple[dict[str, Any], Ints]:
    """Return the columns, and the index of each row's line."""
    lines = batch.lines
    # <eos> has its own row.
    begins = _changes(line_index, tokens["eojeol"].fill_null(0).to_numpy())
    starts = np.flatnonzero(begins)
    # 가/JKS, or 가 if the tokenizer has no tags.
    tagged = pc.binary_join_element_wise(tokens["morph"], tokens["tag"], "/")
    has_tag = pc.greater(pc.fill_null(pc.binary_length(tokens["tag"]), 0), 0)
    parts = pc.if_else(has_tag, tagged, tokens["morph"])
    offsets = np.append(starts, len(line_index))
    lengths = np.diff(offsets)
    names = ("eojeol", "eojeol_text", "unit_indices", "is_end")
    first = {name: tokens[name].take(pa.array(starts)) for name in names}
    surprisal = segment_sums(batch.surprisal, lengths)
    syllables = pc.count_substring_regex(first["eojeol_text"], _SYLLABLES)
    eojeol_counts = None if counts.eojeols is None else counts.of_eojeols(first["eojeol_text"])
    columns = {
        **first,
        "morphs": pc.binary_join(
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), parts), "+"
        ),
        "num_tokens": lengths,
        "num_unk": segment_sums(batch.unknown, lengths),
        "surprisal": surprisal,
        "entropy": None if batch.entropy is None else batch.entropy[starts],
        "open_surprisal": segment_sums(batch.open_surprisal, lengths),
        **_span_columns(_eojeol_spans(lines, tokens["num_units"]), first["unit_indices"]),
        **_predictors(
            _changes(line_index[starts]), first["is_end"], surprisal, syllables, eojeol_counts
        ),
    }
    return columns, line_index[starts]


def _sentence_columns(batch: SurprisalBatch, line_index: Ints) -> dict[str, Any]:
    lines = batch.lines
    lengths = lines.lengths[line_index]
    texts = lines.table.column("text").take(pa.array(line_index)).combine_chunks()
    normalized = normalize_all(texts.to_pylist(), lines.unicode)
    return {
        "text": texts,
        "status": lines.table.column("status").take(pa.array(line_index)),
        "num_eojeol": lines.num_eojeol[line_index],
        "num_chars": lines.num_chars[line_index],
        "num_tokens": lengths,
        "num_unk": segment_sums(batch.unknown, lengths),
        "surprisal": segment_sums(batch.surprisal, lengths),
        "open_surprisal": segment_sums(batch.open_surprisal, lengths),
        "num_syllables": pc.count_substring_regex(pa.array(normalized, pa.string()), _SYLLABLES),
    }


def _predictors(
    begins: npt.NDArray[np.bool_],
    is_end: pa.Array,
    surprisal: npt.NDArray[np.float64],
    syllables: pa.Array,
    counts: Ints | None,
) -> dict[str, Any]:
    """Return length and log frequency of each row, and the values of the row before it.

    Args:
        begins: rows that begin a sentence.
        is_end: rows of <eos>, which has no length and no frequency.
        surprisal: surprisal of each row, in bits.
        syllables: number of syllables of each row.
        counts: count of each row in train; None: unknown.
    """
    missing = pa.nulls(len(begins), pa.float64())
    frequency = missing if counts is None else pa.array(np.log1p(counts))
    columns = {
        "surprisal": pa.array(surprisal),
        "num_syllables": pc.if_else(is_end, None, syllables.cast(pa.int64())),
        "log_frequency": pc.if_else(is_end, None, frequency),
    }
    before = pa.array(np.arange(len(begins)) - 1, mask=begins)
    previous = {f"previous_{name}": column.take(before) for name, column in columns.items()}
    return {**previous, **{name: columns[name] for name in ("num_syllables", "log_frequency")}}


def _token_spans(lines: EncodedText) -> Ints:
    """Return begin and end of all tokens but <eos> in their lines as read, (tokens, 2)."""
    spans = []
    columns = (lines.table.column(name).to_pylist() for name in ("text", "morphs", "eojeol"))
    for text, morphs, eojeol in zip(*columns, strict=True):
        if morphs:
            spans += token_spans(text, morphs, eojeol)
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _eojeol_spans(lines: EncodedText, num_units: Ints) -> Ints:
    """Return begin and end of all eojeols in their lines as read, (eojeols, 2)."""
    spans = []
    for text, number in zip(lines.table.column("text").to_pylist(), num_units, strict=True):
        line_spans = eojeol_spans(text)[:number]
        spans += line_spans + [(len(text), len(text))] * (number - len(line_spans))
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _span_columns(spans: Ints, indices: pa.Array) -> dict[str, pa.Array]:
    """Return the first and the last character of spans; an empty one ends before it begins."""
    return {
        "char_begin": pa.array(spans[:, 0] + 1).take(indices),
        "char_end": pa.array(spans[:, 1]).take(indices),
    }


def _changes(*keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return True where any of the columns differs from the row above, and for the first row."""
    changed = np.zeros(len(keys[0]), dtype=bool)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return changed


def _positions_in_groups(begins: npt.NDArray[np.bool_]) -> Ints:
    """Return the position of each row in its group, from 1; ``begins`` marks the first rows."""
    index = np.arange(len(begins))
    return index - np.maximum.accumulate(np.where(begins, index, 0)) + 1


def _flat(table: pa.Table, name: str) -> pa.Array:
    """Return the values of a list column of all lines as one array."""
    return pc.list_flatten(table.column(name)).combine_chunks()


def _morph_indices(lengths: npt.NDArray[np.int64]) -> pa.Array:
    """Return the index of each token among the morphs of all lines; null for <eos>."""
    is_end = np.zeros(int(lengths.sum()), dtype=bool)
    is_end[np.cumsum(lengths[lengths > 0]) - 1] = True
    return pa.array(np.cumsum(~is_end) - 1, mask=is_end)
