"""Classification: errors, rows that are left out, and class weights."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from task_cases import REVIEWS, TASKS, prepare_table, settings_of
from tiny_runs import start as start_run

from korlm.config import (
    ClassificationConfig,
    ClassWeights,
    CorpusConfig,
    NgramConfig,
    TokenizerConfig,
    VocabConfig,
)
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared
from korlm.tasks.classification import shorten
from korlm.utils.errors import ConfigError, CorpusError, PreparedError

CASE = TASKS["classification"]


def prepare_splits(folder: Path, train: str, valid: str, ending: str = ".tsv") -> Prepared:
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, text in (("train", train), ("valid", valid)):
        path = folder / f"{split}{ending}"
        path.write_text(text, encoding="utf-8")
        files[split] = [str(path)]
    corpus = CorpusConfig(name="tiny", label_column="label", **files)
    return prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), folder)


def start_error(prepared: Prepared, folder: Path) -> str:
    with pytest.raises((CorpusError, PreparedError)) as caught:
        start_run(settings_of(CASE, prepared, 1), prepared, folder / "run")
    assert not (folder / "run").exists()
    return str(caught.value)


def test_labels_that_are_refused(tmp_path: Path) -> None:
    train = "text\tlabel\n좋다\t1\n싫다\t0\n"
    error = start_error(prepare_splits(tmp_path / "a", train, "text\tlabel\n음\t2\n"), tmp_path)
    assert "text 1 of valid has the label '2'" in error
    one = "text\tlabel\n좋다\t1\n또\t1\n"
    assert "the label '1'" in start_error(prepare_splits(tmp_path / "b", one, train), tmp_path)
    missing = "text\tlabel\n좋다\t\n싫다\t0\n"
    with pytest.raises(CorpusError, match="record 1 has no label in 'label'"):
        prepare_splits(tmp_path / "c", missing, train)
    plain = prepare_table(tmp_path / "d", REVIEWS)
    assert "corpus.label_column=COLUMN" in start_error(plain, tmp_path)


def test_labels_of_json_lines_may_be_numbers_and_truth_values(tmp_path: Path) -> None:
    lines = '{"text": "좋다", "label": true}\n{"text": "싫다", "label": false}\n'
    prepared = prepare_splits(tmp_path, lines, lines.replace("true", "false"), ".jsonl")
    assert prepared.labels("train") == ["true", "false"]
    numbers = '{"text": "좋다", "label": 1}\n{"text": "싫다", "label": 0}\n'
    prepared = prepare_splits(tmp_path / "n", numbers, numbers + "\n", ".jsonl")
    assert prepared.labels("valid") == ["1", "0"]


def test_parquet(tmp_path: Path) -> None:
    files = {}
    for split in ("train", "valid"):
        path = tmp_path / f"{split}.parquet"
        pq.write_table(pa.table({"text": ["좋다\n정말", "싫다", split], "label": [1, 0, 1]}), path)
        files[split] = [str(path)]
    corpus = CorpusConfig(name="tiny", label_column="label", **files)
    prepared = prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), tmp_path)
    assert prepared.labels("train") == ["1", "0", "1"]
    assert prepared.stats["train"].num_lines == 3  # line ends of a text are blanks
    corpus = CorpusConfig(name="tiny", label_column="lable", **files)
    with pytest.raises(CorpusError, match="has no column 'lable', only text, label"):
        prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), tmp_path)


def test_rows_without_text_are_left_out(tmp_path: Path) -> None:
    train = "text\tlabel\n좋다\t1\n \t0\n싫다\t0\n"
    prepared = prepare_splits(tmp_path, train, train + "음\t1\n")
    assert prepared.labels("train") == ["1", "0"]
    session = start_run(settings_of(CASE, prepared, 1), prepared, tmp_path / "run")
    assert session.task.warnings(1) == ["rows without text are left out: 1 of train, 1 of valid"]


def test_balanced_classes_have_the_same_weight(tmp_path: Path) -> None:
    prepared = prepare_table(tmp_path / "data", REVIEWS, label_column="annotation")
    config = ClassificationConfig(name="classification", class_weights=ClassWeights.balanced)
    session = start_run(settings_of(CASE, prepared, 1, task=config), prepared, tmp_path / "run")
    counts = torch.tensor([prepared.labels("train").count(label) for label in session.task.labels])
    weighted = session.task.class_weights * counts
    torch.testing.assert_close(weighted, weighted[:1].expand(3))
    assert weighted.sum().item() == pytest.approx(len(REVIEWS))


def test_only_an_evaluation_keeps_outputs(tmp_path: Path) -> None:
    prepared = prepare_table(tmp_path / "data", REVIEWS, label_column="annotation")
    session = start_run(settings_of(CASE, prepared, 1), prepared, tmp_path / "run")
    task, model = session.task, session.model.eval()
    metrics = task.evaluate(model, "valid")
    with torch.inference_mode():
        assert len(list(task.example_counts(model, "valid"))) > 0
    again = task.evaluate(model, "valid")
    assert again["expected_calibration_error"] == metrics["expected_calibration_error"]
    assert task._outputs is None


def test_only_recurrent_models(tmp_path: Path) -> None:
    prepared = prepare_table(tmp_path, REVIEWS, label_column="annotation")
    with pytest.raises(ConfigError, match="task=classification needs model=lstm, gru or rnn"):
        settings_of(CASE, prepared, 1, model=NgramConfig(name="ngram"))


def test_long_texts_keep_both_ends() -> None:
    ids = torch.arange(10).numpy()
    assert shorten(ids, 10).tolist() == list(range(10))
    assert shorten(ids, 5).tolist() == [0, 1, 2, 8, 9]
