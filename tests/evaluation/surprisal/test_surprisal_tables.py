"""Rows by hand, and equal sums in all tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from korlm.config import ScoreUnit, VocabConfig
from korlm.corpus.lines import LineBlock
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage.piece_writer import to_table
from korlm.dataset.text_batches import TextBatch
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import UNK_ID, Vocab
from korlm.evaluation.surprisal.scorer import SurprisalBatch
from korlm.evaluation.surprisal.tables import rows_of, schema_of
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import to_record_batch

TEXTS = ["나는  간다", " ", "ㅋㅋ"]
ANALYSES = [
    Analysis(["나", "는", "가", "ㄴ다"], ["NP", "JX", "VV", "EFN"], [0, 0, 1, 1]),
    EMPTY,
    Analysis(["ㅋㅋ"], [""], [0], "fallback: why"),
]


def batch_of(texts: list[str], analyses: list[Analysis], entropy: bool = True) -> SurprisalBatch:
    vocab = Vocab({"나": 3, "는": 3, "가": 3, "ㄴ다": 3}, VocabConfig(min_freq=1))
    batch = TextBatch("t", [LineBlock("t", "글", 1, texts)])
    table = to_table([batch], [to_record_batch(analyses)])
    lines = EncodedText.from_table(table, vocab, CharNgramModel.train({"나": 2, "는": 1}))
    bits = np.arange(1.0, len(lines.ids) + 1)
    return SurprisalBatch(
        lines,
        surprisal=bits,
        open_surprisal=bits + lines.spelling_nats,
        entropy=bits / 8 if entropy else None,
        unknown=lines.ids == UNK_ID,
    )


def test_morphs() -> None:
    table = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.morph)
    assert table.schema == schema_of(ScoreUnit.morph, entropy=True)
    rows = [list(row.values()) for row in table.to_pylist()]
    assert [row[:8] for row in rows] == [
        ["글", 1, 0, "나는", "나", "NP", 1.0, 0.125],
        ["글", 1, 0, "나는", "는", "JX", 2.0, 0.25],
        ["글", 1, 1, "간다", "가", "VV", 3.0, 0.375],
        ["글", 1, 1, "간다", "ㄴ다", "EFN", 4.0, 0.5],
        ["글", 1, None, None, "<eos>", None, 5.0, 0.625],
        ["글", 3, 0, "ㅋㅋ", "ㅋㅋ", "", 6.0, 0.75],
        ["글", 3, None, None, "<eos>", None, 7.0, 0.875],
    ]
    assert [row[8] for row in rows] == [False] * 5 + [True, False]
    assert [row[9] > row[6] for row in rows] == [False] * 5 + [True, False]


def test_eojeols() -> None:
    rows = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.eojeol).to_pylist()
    assert [list(row.values())[1:9] for row in rows] == [
        [1, 0, "나는", "나/NP+는/JX", 2, 0, 3.0, 0.125],
        [1, 1, "간다", "가/VV+ㄴ다/EFN", 2, 0, 7.0, 0.375],
        [1, None, None, "<eos>", 1, 0, 5.0, 0.625],
        [3, 0, "ㅋㅋ", "ㅋㅋ", 1, 1, 6.0, 0.75],
        [3, None, None, "<eos>", 1, 0, 7.0, 0.875],
    ]


def test_sentences() -> None:
    rows = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.sentence).to_pylist()
    assert [list(row.values())[1:9] for row in rows] == [
        [1, "나는  간다", "ok", 2, 7, 5, 0, 15.0],
        [3, "ㅋㅋ", "fallback: why", 1, 3, 2, 1, 13.0],
    ]


def test_all_levels_have_the_same_sums() -> None:
    tables = [rows_of(batch_of(TEXTS, ANALYSES), unit) for unit in ScoreUnit]
    for name in ("surprisal", "open_surprisal"):
        sums = {round(float(np.sum(table[name].to_numpy())), 9) for table in tables}
        assert len(sums) == 1


def test_neighbouring_lines_of_one_eojeol_stay_apart() -> None:
    texts, analyses = ["나", "나"], [Analysis(["나"], ["NP"], [0])] * 2
    assert len(rows_of(batch_of(texts, analyses), ScoreUnit.eojeol)) == 4


@pytest.mark.parametrize("unit", ScoreUnit)
@pytest.mark.parametrize("texts", [[], [" ", ""]])
def test_nothing(unit: ScoreUnit, texts: list[str]) -> None:
    table = rows_of(batch_of(texts, [EMPTY] * len(texts)), unit)
    assert len(table) == 0 and table.schema == schema_of(unit, entropy=True)


@pytest.mark.parametrize("unit", ScoreUnit)
def test_without_entropy(unit: ScoreUnit) -> None:
    table = rows_of(batch_of(TEXTS, ANALYSES, entropy=False), unit)
    assert table.schema == schema_of(unit, entropy=False)
    assert "entropy" not in table.column_names and isinstance(table, pa.Table)
