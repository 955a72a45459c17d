"""Surprisal tables with a row per morph, eojeol or sentence.

All tables of a text have the same total surprisal: <eos> has its own row, without an eojeol, in
tables of morphs and eojeols, and is part of the sum of its sentence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config import ScoreUnit, UnicodeForm
from korlm.corpus.normalization import normalize_all
from korlm.dataset.vocab import EOS
from korlm.evaluation.surprisal.scorer import SurprisalBatch
from korlm.text.eojeol import split_units

_SCHEMAS = {
    ScoreUnit.morph: pa.schema(
        [
            ("doc_id", pa.string()),
            ("line", pa.int64()),
            ("eojeol", pa.int32()),
            ("eojeol_text", pa.string()),
            ("morph", pa.string()),
            ("tag", pa.string()),
            ("surprisal", pa.float64()),
            ("entropy", pa.float64()),
            ("unknown", pa.bool_()),
            ("open_surprisal", pa.float64()),
        ]
    ),
    ScoreUnit.eojeol: pa.schema(
        [
            ("doc_id", pa.string()),
            ("line", pa.int64()),
            ("eojeol", pa.int32()),
            ("eojeol_text", pa.string()),
            ("morphs", pa.string()),
            ("num_tokens", pa.int64()),
            ("num_unk", pa.int64()),
            ("surprisal", pa.float64()),
            ("entropy", pa.float64()),
            ("open_surprisal", pa.float64()),
        ]
    ),
    ScoreUnit.sentence: pa.schema(
        [
            ("doc_id", pa.string()),
            ("line", pa.int64()),
            ("text", pa.string()),
            ("status", pa.string()),
            ("num_eojeol", pa.int64()),
            ("num_chars", pa.int64()),
            ("num_tokens", pa.int64()),
            ("num_unk", pa.int64()),
            ("surprisal", pa.float64()),
            ("open_surprisal", pa.float64()),
        ]
    ),
}


def schema_of(unit: ScoreUnit, entropy: bool) -> pa.Schema:
    """Return the columns of a table, with or without ``entropy``."""
    fields = [field for field in _SCHEMAS[unit] if entropy or field.name != "entropy"]
    return pa.schema(fields)


def rows_of(batch: SurprisalBatch, unit: ScoreUnit) -> pa.Table:
    """Return the rows of a window of text, with the columns of ``schema_of``."""
    columns = {
        ScoreUnit.morph: _morph_columns,
        ScoreUnit.eojeol: _eojeol_columns,
        ScoreUnit.sentence: _sentence_columns,
    }[unit](batch)
    schema = schema_of(unit, batch.entropy is not None)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _morph_columns(batch: SurprisalBatch) -> dict[str, Any]:
    table, lengths = batch.lines.table, batch.lines.lengths
    lines = np.repeat(np.arange(len(lengths)), lengths)
    indices = _morph_indices(lengths)
    eojeol = _flat(table, "eojeol").take(indices)
    return {
        "doc_id": table.column("doc_id").take(pa.array(lines)),
        "line": table.column("line").take(pa.array(lines)),
        "eojeol": eojeol,
        "eojeol_text": _eojeol_texts(table, lines, eojeol, batch.lines.unicode),
        "morph": _flat(table, "morphs").take(indices).fill_null(EOS),
        "tag": _flat(table, "tags").take(indices),
        "surprisal": batch.surprisal,
        "entropy": batch.entropy,
        "unknown": batch.unknown,
        "open_surprisal": batch.open_surprisal,
    }


def _eojeol_columns(batch: SurprisalBatch) -> dict[str, Any]:
    morphs = _morph_columns(batch)
    if not len(batch.unknown):
        return {"morphs": [], "num_tokens": [], "num_unk": [], **morphs}
    lengths = batch.lines.lengths
    lines = np.repeat(np.arange(len(lengths)), lengths)
    eojeol = morphs["eojeol"].fill_null(-1).to_numpy()  # <eos> has its own row
    begins = np.append(True, (lines[1:] != lines[:-1]) | (eojeol[1:] != eojeol[:-1]))
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(lines))
    # 가/JKS, or 가 if the tokenizer has no tags.
    tagged = pc.binary_join_element_wise(morphs["morph"], morphs["tag"], "/")
    has_tag = pc.greater(pc.fill_null(pc.binary_length(morphs["tag"]), 0), 0)
    parts = pc.if_else(has_tag, tagged, morphs["morph"])
    offsets = pa.array(np.append(starts, len(lines)), pa.int32())
    first = pa.array(starts)
    return {
        **{name: morphs[name].take(first) for name in ("doc_id", "line", "eojeol", "eojeol_text")},
        "morphs": pc.binary_join(pa.ListArray.from_arrays(offsets, parts), "+"),
        "num_tokens": ends - starts,
        "num_unk": np.add.reduceat(batch.unknown.astype(np.int64), starts),
        "surprisal": np.add.reduceat(batch.surprisal, starts),
        "entropy": None if batch.entropy is None else batch.entropy[starts],
        "open_surprisal": np.add.reduceat(batch.open_surprisal, starts),
    }


def _sentence_columns(batch: SurprisalBatch) -> dict[str, Any]:
    lines = batch.lines
    not_blank = np.flatnonzero(lines.lengths)
    ends = np.cumsum(lines.lengths[not_blank])
    starts = ends - lines.lengths[not_blank]

    def sums(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.add.reduceat(values, starts) if len(starts) else values

    names = ("doc_id", "line", "text", "status")
    return {
        **{name: lines.table.column(name).take(pa.array(not_blank)) for name in names},
        "num_eojeol": lines.num_eojeol[not_blank],
        "num_chars": lines.num_chars[not_blank],
        "num_tokens": lines.lengths[not_blank],
        "num_unk": sums(batch.unknown.astype(np.int64)),
        "surprisal": sums(batch.surprisal),
        "open_surprisal": sums(batch.open_surprisal),
    }


def _flat(table: pa.Table, name: str) -> pa.Array:
    """Return the values of a list column of all lines as one array."""
    return pc.list_flatten(table.column(name)).combine_chunks()


def _morph_indices(lengths: npt.NDArray[np.int64]) -> pa.Array:
    """Return the index of each token among the morphs of all lines; null for <eos>."""
    is_end = np.zeros(int(lengths.sum()), dtype=bool)
    is_end[np.cumsum(lengths[lengths > 0]) - 1] = True
    return pa.array(np.cumsum(~is_end) - 1, mask=is_end)


def _eojeol_texts(
    table: pa.Table, lines: npt.NDArray[np.int64], eojeol: pa.Array, unicode: UnicodeForm
) -> pa.Array:
    """Return the eojeol that contains each token, as written in the normalized line.

    Args:
        table: the lines.
        lines: (N,), index of each token's line.
        eojeol: (N,), index of its eojeol in the line; null for <eos>.
        unicode: normalization of the lines.
    """
    lengths, units = split_units(normalize_all(table.column("text").to_pylist(), unicode))
    starts = np.cumsum(lengths) - lengths
    indices = pa.array(starts[lines])
    return units.take(pc.add(indices, eojeol.cast(pa.int64())))
