"""Represent analyzed lines as Arrow record batches with one row per line.

Python objects for every line would take more time and memory than the fast tokenizers themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from korlm.tokenizers.analysis import Analysis

ANALYSIS = pa.schema(
    [
        ("morphs", pa.list_(pa.string())),
        ("tags", pa.list_(pa.string())),
        ("eojeol", pa.list_(pa.int32())),
        ("status", pa.string()),
        ("dropped", pa.int32()),
        ("seconds", pa.float32()),
        ("spans", pa.list_(pa.int32())),
    ]
)


def build_columns(
    lengths: npt.NDArray[np.integer[Any]],
    morphs: Any,
    tags: Any,
    eojeol: Any,
    status: Any,
    dropped: Any = None,
    seconds: Any = None,
    spans: Sequence[Sequence[int]] | None = None,
) -> pa.RecordBatch:
    """Return a batch, given its values as sequences or Arrow arrays; see ``Analysis``.

    Args:
        lengths: number of tokens of each line, (lines,).
        morphs: the N tokens of all lines, one line after the other.
        tags: tag of each token, (N,).
        eojeol: index of the eojeol of each token within its line, (N,).
        status: status of each line.
        dropped: number of dropped characters of each line; None: 0.
        seconds: time of each line; None: 0.
        spans: spans of each line; None: empty.
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    zeros = np.zeros(len(lengths), dtype=np.int32)
    starts = pa.array(offsets)
    columns = [
        pa.ListArray.from_arrays(starts, _array(morphs, pa.string())),
        pa.ListArray.from_arrays(starts, _array(tags, pa.string())),
        pa.ListArray.from_arrays(starts, _array(eojeol, pa.int32())),
        _array(status, pa.string()),
        _array(zeros if dropped is None else dropped, pa.int32()),
        _array(zeros if seconds is None else seconds, pa.float32()),
        pa.array([()] * len(lengths) if spans is None else spans, pa.list_(pa.int32())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ANALYSIS)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type=kind)


def to_record_batch(analyses: Sequence[Analysis]) -> pa.RecordBatch:
    """Return a batch of the analyses of single lines.

    >>> from korlm.tokenizers.analysis import EMPTY
    >>> to_record_batch([Analysis(["가", "나"], ["", ""], [0, 0]), EMPTY])["status"].to_pylist()
    ['ok', 'empty']
    """
    flat = itertools.chain.from_iterable
    return build_columns(
        np.fromiter((len(a.morphs) for a in analyses), np.int32, len(analyses)),
        list(flat(a.morphs for a in analyses)),
        list(flat(a.tags for a in analyses)),
        list(flat(a.eojeol for a in analyses)),
        [a.status for a in analyses],
        [a.dropped for a in analyses],
        [a.seconds for a in analyses],
        [a.spans for a in analyses],
    )


def analyses_of(batch: pa.RecordBatch) -> list[Analysis]:
    """Return the analysis of each line of a batch."""
    lists = (list_rows(batch.column(name)) for name in ("morphs", "tags", "eojeol"))
    flat = (batch.column(name).to_pylist() for name in ("status", "dropped", "seconds"))
    spans = map(tuple, list_rows(batch.column("spans")))
    return [Analysis(*row) for row in zip(*lists, *flat, spans, strict=True)]


def list_rows(column: pa.ListArray) -> Iterator[list[Any]]:
    """Yield the lists of a column without nulls, ten times as fast as ``to_pylist``."""
    values = column.flatten().to_numpy(zero_copy_only=False).tolist()
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False)).tolist()
    return (values[begin:end] for begin, end in itertools.pairwise([0, *ends]))


def pack(columns: pa.RecordBatch, compression: str | None = None) -> bytes:
    """Return a batch as the bytes of an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, ANALYSIS, options=options) as stream:
        stream.write_batch(columns)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def unpack(packed: Any) -> pa.RecordBatch | None:
    """Return the batch in bytes or an Arrow buffer; None if its schema is not ``ANALYSIS``."""
    with pa.ipc.open_stream(packed) as stream:
        return stream.read_next_batch() if stream.schema == ANALYSIS else None
