"""The costs of a text as tables: a row for each morph, eojeol or sentence.

All tables of a text have the same sum of surprisals: what <eos> costs has a row of its own, without
an eojeol, among morphs and eojeols, and is in the sum of its sentence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config import ScoreUnit, Unicode
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


def schema_of(level: ScoreUnit, entropy: bool) -> pa.Schema:
    """The columns of a table; without ``entropy`` where nobody asked for it."""
    fields = [field for field in _SCHEMAS[level] if entropy or field.name != "entropy"]
    return pa.schema(fields)


def rows_of(costs: SurprisalBatch, level: ScoreUnit) -> pa.Table:
    """The rows of a window of text, with the columns of ``schema_of``."""
    columns = {
        ScoreUnit.morph: _morph_columns,
        ScoreUnit.eojeol: _eojeol_columns,
        ScoreUnit.sentence: _sentence_columns,
    }[level](costs)
    schema = schema_of(level, costs.entropy is not None)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _morph_columns(costs: SurprisalBatch) -> dict[str, Any]:
    table, lengths = costs.reading.table, costs.reading.lengths
    lines = np.repeat(np.arange(len(lengths)), lengths)
    places = _morph_places(lengths)
    eojeol = _flat(table, "eojeol").take(places)
    return {
        "doc_id": table.column("doc_id").take(pa.array(lines)),
        "line": table.column("line").take(pa.array(lines)),
        "eojeol": eojeol,
        "eojeol_text": _written(table, lines, eojeol, costs.reading.unicode),
        "morph": _flat(table, "morphs").take(places).fill_null(EOS),
        "tag": _flat(table, "tags").take(places),
        "surprisal": costs.surprisal,
        "entropy": costs.entropy,
        "unknown": costs.unknown,
        "open_surprisal": costs.open_surprisal,
    }


def _eojeol_columns(costs: SurprisalBatch) -> dict[str, Any]:
    morphs = _morph_columns(costs)
    if not len(costs.unknown):
        return {"morphs": [], "num_tokens": [], "num_unk": [], **morphs}
    lengths = costs.reading.lengths
    lines = np.repeat(np.arange(len(lengths)), lengths)
    eojeol = morphs["eojeol"].fill_null(-1).to_numpy()  # <eos> is by itself
    begins = np.append(True, (lines[1:] != lines[:-1]) | (eojeol[1:] != eojeol[:-1]))
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(lines))
    # 가/JKS, and 가 alone where the tokenizer gives no tags.
    tagged = pc.binary_join_element_wise(morphs["morph"], morphs["tag"], "/")
    has_tag = pc.greater(pc.fill_null(pc.binary_length(morphs["tag"]), 0), 0)
    parts = pc.if_else(has_tag, tagged, morphs["morph"])
    offsets = pa.array(np.append(starts, len(lines)), pa.int32())
    first = {
        name: pa.array(column).take(pa.array(starts))
        for name, column in ((name, morphs[name]) for name in ("eojeol", "eojeol_text"))
    }
    return {
        "doc_id": morphs["doc_id"].take(pa.array(starts)),
        "line": morphs["line"].take(pa.array(starts)),
        **first,
        "morphs": pc.binary_join(pa.ListArray.from_arrays(offsets, parts), "+"),
        "num_tokens": ends - starts,
        "num_unk": np.add.reduceat(costs.unknown.astype(np.int64), starts),
        "surprisal": np.add.reduceat(costs.surprisal, starts),
        "entropy": None if costs.entropy is None else costs.entropy[starts],
        "open_surprisal": np.add.reduceat(costs.open_surprisal, starts),
    }


def _sentence_columns(costs: SurprisalBatch) -> dict[str, Any]:
    reading = costs.reading
    filled = np.flatnonzero(reading.lengths)
    ends = np.cumsum(reading.lengths[filled])
    starts = ends - reading.lengths[filled]

    def total(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.add.reduceat(values, starts) if len(starts) else values

    names = ("doc_id", "line", "text", "status")
    return {
        **{name: reading.table.column(name).take(pa.array(filled)) for name in names},
        "num_eojeol": reading.num_eojeol[filled],
        "num_chars": reading.num_chars[filled],
        "num_tokens": reading.lengths[filled],
        "num_unk": total(costs.unknown.astype(np.int64)),
        "surprisal": total(costs.surprisal),
        "open_surprisal": total(costs.open_surprisal),
    }


def _flat(table: pa.Table, name: str) -> pa.Array:
    """The values of a list column, those of all lines in a row."""
    return pc.list_flatten(table.column(name)).combine_chunks()


def _morph_places(lengths: npt.NDArray[np.int64]) -> pa.Array:
    """For each token its place among the morphs of all lines; null for <eos>."""
    is_end = np.zeros(int(lengths.sum()), dtype=bool)
    is_end[np.cumsum(lengths[lengths > 0]) - 1] = True
    return pa.array(np.cumsum(~is_end) - 1, mask=is_end)


def _written(
    table: pa.Table, lines: npt.NDArray[np.int64], eojeol: pa.Array, unicode: Unicode
) -> pa.Array:
    """The unit between blanks that each token stands in, as the normalized line has it.

    Args:
        table: of the lines.
        lines: (N,), the line of each token.
        eojeol: (N,), which unit of it, from 0; null for <eos>.
        unicode: normalization of the lines.
    """
    lengths, units = split_units(normalize_all(table.column("text").to_pylist(), unicode))
    starts = np.cumsum(lengths) - lengths
    places = pa.array(starts[lines])
    return units.take(pc.add(places, eojeol.cast(pa.int64())))
