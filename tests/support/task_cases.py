"""Tasks with ten examples that a small model learns by heart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_runs import make_settings

from korlm.config import (
    ClassificationConfig,
    CorpusConfig,
    LSTMConfig,
    Seq2SeqConfig,
    TaggingConfig,
    TagLabels,
    TokenizerConfig,
    TrainSettings,
    VocabConfig,
)
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared

REVIEWS = [
    *(("좋다", "긍정"), ("정말 좋다", "긍정"), ("참 재미있는 영화다", "긍정"), ("또 보자", "긍정")),
    *(("싫다", "부정"), ("정말 싫다", "부정"), ("참 지루한 영화다", "부정"), ("졸리다", "부정")),
    *(("그저 그렇다", "보통"), ("보통이다", "보통")),
]


def prepare_table(folder: Path, rows: list[tuple[str, str]], **columns: str) -> Prepared:
    """Prepare a table whose rows are train, valid and test."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{text}\t{annotation}\n" for text, annotation in rows)
    files = {}
    for split in ("train", "valid", "test"):
        path = folder / f"{split}.tsv"
        path.write_text(f"text\tannotation\n{lines}", encoding="utf-8")
        files[split] = [str(path)]
    corpus = CorpusConfig(name="tiny", **files, **columns)
    return prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), folder)


@dataclasses.dataclass
class TaskCase:
    """A task with ten examples that it can learn by heart."""

    prepare: Callable[[Path], Prepared]
    config: Any
    texts: list[str]
    is_learned: Callable[[dict[str, float]], bool]


PAIRS = [
    *(("a", "가"), ("na", "나"), ("da", "다"), ("ra", "라"), ("ma", "마"), ("ba", "바")),
    *(("nama", "나마"), ("dara", "다라"), ("mana", "마나"), ("bada", "바다")),
]
SENTENCES = [
    *("나는 집에 간다", "너는 참 잘 잔다", "나는 잘 간다", "잔다", "너는 집에 간다"),
    *("참 잘 간다", "나는 잔다", "너는 간다", "집에 간다", "나는 참 잘 잔다"),
]


def prepare_lines(folder: Path, lines: list[str]) -> Prepared:
    """Prepare plain text whose lines are train, valid and test."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split in ("train", "valid", "test"):
        path = folder / f"{split}.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        files[split] = [str(path)]
    corpus = CorpusConfig(name="tiny", **files)
    return prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), folder)


TASKS = {
    "classification": TaskCase(
        lambda folder: prepare_table(folder, REVIEWS, label_column="annotation"),
        ClassificationConfig(name="classification"),
        [text for text, _ in REVIEWS],
        lambda metrics: metrics["accuracy"] == 1.0,
    ),
    "tagging": TaskCase(
        lambda folder: prepare_lines(folder, SENTENCES),
        TaggingConfig(name="tagging", labels=TagLabels.spaces),
        [text.replace(" ", "") for text in SENTENCES],
        lambda metrics: metrics["f1"] == 1.0,
    ),
    "seq2seq": TaskCase(
        lambda folder: prepare_table(folder, PAIRS, target_column="annotation"),
        Seq2SeqConfig(name="seq2seq", num_beams=2),
        [text for text, _ in PAIRS],
        lambda metrics: metrics["exact_match"] == 1.0,
    ),
}


def settings_of(case: TaskCase, prepared: Prepared, epochs: int, **parts: Any) -> TrainSettings:
    """Small settings of a task."""
    model = LSTMConfig(name="lstm", embedding_dim=16, hidden_dim=16, num_layers=1)
    parts = {"model": model, "task": case.config} | parts
    return make_settings(prepared, {"epochs": epochs}, **parts)
