"""Analyses as record batches and back."""

import numpy as np
import pyarrow as pa

from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import ANALYSIS, analyses_of, build_columns, to_record_batch

LINES = [
    Analysis(["나", "는"], ["NP", "JX"], [0, 0]),
    EMPTY,
    Analysis([], [], [], "lost: all", 3, 0.5),
    Analysis(["가"], ["UN"], [2], "fallback: JException", 0, 12.25),
]


def test_there_and_back() -> None:
    batch = to_record_batch(LINES)
    assert batch.schema == ANALYSIS
    batch.validate(full=True)
    assert analyses_of(batch) == LINES
    assert analyses_of(batch.slice(2)) == LINES[2:]


def test_nothing() -> None:
    batch = to_record_batch([])
    assert (batch.schema, batch.num_rows, analyses_of(batch)) == (ANALYSIS, 0, [])


def test_flat_lists_and_arrays() -> None:
    lengths = np.array([2, 0, 1])
    made = build_columns(
        lengths,
        ["나", "는", "가"],
        pa.array(["", "", ""]),
        np.array([0, 0, 0], dtype=np.int32),
        ["ok", "empty", "ok"],
    )
    assert made == to_record_batch(
        [Analysis(["나", "는"], ["", ""], [0, 0]), EMPTY, Analysis(["가"], [""], [0])]
    )
