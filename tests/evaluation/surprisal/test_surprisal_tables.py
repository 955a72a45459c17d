"""Rows by hand, and equal sums in all tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from korlm.config import ScoreUnit, VocabConfig
from korlm.corpus.records import LineBlock
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage.piece_writer import to_table
from korlm.dataset.text_batches import TextBatch
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import UNK_ID, Vocab
from korlm.evaluation.surprisal.frequencies import TrainCounts
from korlm.evaluation.surprisal.scorer import SurprisalBatch
from korlm.evaluation.surprisal.tables import kept_columns, rows_of, schema_of
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import to_record_batch

TEXTS = ["나는  간다", " ", "ㅋㅋ"]
ANALYSES = [
    Analysis(["나", "는", "가", "ㄴ다"], ["NP", "JX", "VV", "EFN"], [0, 0, 1, 1]),
    EMPTY,
    Analysis(["ㅋㅋ"], [""], [0], "fallback: why"),
]


VOCAB = Vocab({"나": 3, "는": 3, "가": 3, "ㄴ다": 1}, VocabConfig(min_freq=1))
COUNTS = TrainCounts(np.array(VOCAB.counts), {"나는": 2, "간다": 5})
PREVIOUS = ["previous_surprisal", "previous_num_syllables", "previous_log_frequency"]


def batch_of(
    texts: list[str],
    analyses: list[Analysis],
    entropy: bool = True,
    columns: dict[str, list[str]] | None = None,
) -> SurprisalBatch:
    kept = columns or {}
    batch = TextBatch("t", [LineBlock("t", "글", 1, texts, kept)])
    table = to_table([batch], [to_record_batch(analyses)], kept_columns(kept))
    lines = EncodedText.from_table(table, VOCAB, CharNgramModel.train({"나": 2, "는": 1}))
    bits = np.arange(1.0, len(lines.ids) + 1)
    return SurprisalBatch(
        lines,
        surprisal=bits,
        open_surprisal=bits + lines.spelling_nats,
        entropy=bits / 8 if entropy else None,
        unknown=lines.ids == UNK_ID,
    )


def test_morphs() -> None:
    table = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.morph, COUNTS)
    assert table.schema == schema_of(ScoreUnit.morph, entropy=True)
    rows = [list(row.values()) for row in table.to_pylist()]
    assert [row[:8] for row in rows] == [
        ["글", 1, 1, "나는", "나", "NP", 1.0, 0.125],
        ["글", 1, 1, "나는", "는", "JX", 2.0, 0.25],
        ["글", 1, 2, "간다", "가", "VV", 3.0, 0.375],
        ["글", 1, 2, "간다", "ㄴ다", "EFN", 4.0, 0.5],
        ["글", 1, None, None, "<eos>", None, 5.0, 0.625],
        ["글", 3, 1, "ㅋㅋ", "ㅋㅋ", "", 6.0, 0.75],
        ["글", 3, None, None, "<eos>", None, 7.0, 0.875],
    ]
    assert [row[8] for row in rows] == [False] * 5 + [True, False]
    assert [row[9] > row[6] for row in rows] == [False] * 5 + [True, False]


def test_eojeols() -> None:
    rows = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.eojeol, COUNTS).to_pylist()
    assert [list(row.values())[1:9] for row in rows] == [
        [1, 1, "나는", "나/NP+는/JX", 2, 0, 3.0, 0.125],
        [1, 2, "간다", "가/VV+ㄴ다/EFN", 2, 0, 7.0, 0.375],
        [1, None, None, "<eos>", 1, 0, 5.0, 0.625],
        [3, 1, "ㅋㅋ", "ㅋㅋ", 1, 1, 6.0, 0.75],
        [3, None, None, "<eos>", 1, 0, 7.0, 0.875],
    ]


def test_sentences() -> None:
    rows = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.sentence, COUNTS).to_pylist()
    assert [list(row.values())[1:9] for row in rows] == [
        [1, "나는  간다", "ok", 2, 7, 5, 0, 15.0],
        [3, "ㅋㅋ", "fallback: why", 1, 3, 2, 1, 13.0],
    ]


def columns_of(table: pa.Table, names: list[str]) -> list[list[object]]:
    """Return the cells of some columns by row, numbers rounded."""
    cells = [table[name].to_pylist() for name in names]
    rounded = [[round(c, 3) if isinstance(c, float) else c for c in column] for column in cells]
    return [list(row) for row in zip(*rounded, strict=True)]


def test_places_lengths_and_frequencies_of_morphs() -> None:
    table = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.morph, COUNTS)
    names = ["position", "position_in_eojeol", "char_begin", "char_end"]
    assert columns_of(table, [*names, "num_syllables", "log_frequency"]) == [
        [1, 1, 1, 1, 1, 1.386],
        [2, 2, 2, 2, 1, 1.386],
        [3, 1, 5, 5, 1, 1.386],
        [4, 2, 5, 6, 1, 0.693],
        [5, None, None, None, None, None],
        [1, 1, 1, 2, 0, 0.0],
        [2, None, None, None, None, None],
    ]
    assert columns_of(table, PREVIOUS) == [
        [None, None, None],
        [1.0, 1, 1.386],
        [2.0, 1, 1.386],
        [3.0, 1, 1.386],
        [4.0, 1, 0.693],
        [None, None, None],
        [6.0, 0, 0.0],
    ]


def test_places_lengths_and_frequencies_of_eojeols() -> None:
    table = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.eojeol, COUNTS)
    names = ["char_begin", "char_end", "num_syllables", "log_frequency", *PREVIOUS]
    assert columns_of(table, names) == [
        [1, 2, 2, 1.099, None, None, None],
        [5, 6, 2, 1.792, 3.0, 2, 1.099],
        [None, None, None, None, 7.0, 2, 1.792],
        [1, 2, 0, 0.0, None, None, None],
        [None, None, None, None, 6.0, 0, 0.0],
    ]
    unknown = TrainCounts(COUNTS.tokens)
    table = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.eojeol, unknown)
    assert table["log_frequency"].null_count == len(table)


def test_syllables_of_a_sentence() -> None:
    table = rows_of(batch_of(TEXTS, ANALYSES), ScoreUnit.sentence, COUNTS)
    assert table["num_syllables"].to_pylist() == [4, 0]


def test_characters_are_those_of_the_line_as_read() -> None:
    texts = ["\ufeff나는\u200b 간다"]
    table = rows_of(batch_of(texts, ANALYSES[:1]), ScoreUnit.eojeol, COUNTS)
    begin, end = table["char_begin"].to_pylist(), table["char_end"].to_pylist()
    spans = zip(begin[:2], end[:2], strict=True)
    assert [texts[0][a - 1 : b] for a, b in spans] == ["\ufeff나는\u200b", "간다"]


@pytest.mark.parametrize("unit", ScoreUnit)
def test_columns_of_the_input(unit: ScoreUnit) -> None:
    columns = {"item": ["1", "2", "3"], "morph": ["a", "b", "c"]}
    table = rows_of(batch_of(TEXTS, ANALYSES, columns=columns), unit, COUNTS)
    assert table.schema == schema_of(unit, entropy=True, kept=["item", "input_morph"])
    rows = zip(*(table[name].to_pylist() for name in ("line", "item", "input_morph")), strict=True)
    assert dict.fromkeys(rows) == dict.fromkeys([(1, "1", "a"), (3, "3", "c")])


def test_all_levels_have_the_same_sums() -> None:
    tables = [rows_of(batch_of(TEXTS, ANALYSES), unit, COUNTS) for unit in ScoreUnit]
    for name in ("surprisal", "open_surprisal"):
        sums = {round(float(np.sum(table[name].to_numpy())), 9) for table in tables}
        assert len(sums) == 1


def test_neighbouring_lines_of_one_eojeol_stay_apart() -> None:
    texts, analyses = ["나", "나"], [Analysis(["나"], ["NP"], [0])] * 2
    assert len(rows_of(batch_of(texts, analyses), ScoreUnit.eojeol, COUNTS)) == 4


@pytest.mark.parametrize("unit", ScoreUnit)
@pytest.mark.parametrize("texts", [[], [" ", ""]])
def test_nothing(unit: ScoreUnit, texts: list[str]) -> None:
    table = rows_of(batch_of(texts, [EMPTY] * len(texts)), unit, COUNTS)
    assert len(table) == 0 and table.schema == schema_of(unit, entropy=True)


@pytest.mark.parametrize("unit", ScoreUnit)
def test_without_entropy(unit: ScoreUnit) -> None:
    table = rows_of(batch_of(TEXTS, ANALYSES, entropy=False), unit, COUNTS)
    assert table.schema == schema_of(unit, entropy=False)
    assert "entropy" not in table.column_names and isinstance(table, pa.Table)
