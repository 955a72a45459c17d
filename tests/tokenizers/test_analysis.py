"""Analyses as record batches and back, also as bytes."""

import numpy as np
import pyarrow as pa
import pytest

from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import (
    ANALYSIS,
    analyses_of,
    build_columns,
    pack,
    to_record_batch,
    unpack,
)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [EMPTY],
        [Analysis(["나", "는", "\0😀"], ["NP", "", "OL"], [0, 0, 7], "lost: 2 characters", 2, 0.5)],
        [EMPTY, Analysis(["가"] * 1000, ["N"] * 1000, [*range(1000)]), EMPTY],
    ],
)
def test_there_and_back(lines: list[Analysis]) -> None:
    columns = to_record_batch(lines)
    assert columns.schema == ANALYSIS and columns.validate(full=True) is None
    assert analyses_of(columns) == lines
    assert unpack(pack(columns)) == columns
    assert analyses_of(unpack(pack(to_record_batch([EMPTY, *lines]).slice(1)))) == lines


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
