"""Tasks with ten examples that a small model can memorize."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_runs import finish, make_settings

import korlm
from korlm.config import (
    ClassificationConfig,
    CorpusConfig,
    LSTMConfig,
    Seq2SeqConfig,
    TaggingConfig,
    TagHead,
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


def prepare_table(
    folder: Path, rows: list[tuple[str, str]], copies: int = 1, **columns: str
) -> Prepared:
    """Prepare a table; train, valid and test have the same rows.

    Several copies of them in train give many steps with few validations.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{text}\t{annotation}\n" for text, annotation in rows)
    files = {}
    for split in ("train", "valid", "test"):
        path = folder / f"{split}.tsv"
        content = lines * (copies if split == "train" else 1)
        path.write_text(f"text\tannotation\n{content}", encoding="utf-8")
        files[split] = [str(path)]
    corpus = CorpusConfig(name="tiny", **files, **columns)
    return prepare(corpus, TokenizerConfig(name="syllable"), VocabConfig(1), folder)


@dataclasses.dataclass
class TaskCase:
    """A task whose ten examples a small model can memorize."""

    rows: list[tuple[str, str]]
    columns: dict[str, str]
    config: Any
    texts: list[str]
    is_learned: Callable[[dict[str, float]], bool]
    units: int = 16
    copies: int = 10  # of the examples in train, and the epochs that it needs with them
    epochs: int = 10

    def prepare(self, folder: Path, copies: int = 1) -> Prepared:
        """Prepare the rows; see ``prepare_table``."""
        return prepare_table(folder, self.rows, copies, **self.columns)


NAMES = [
    *(("홍길동이 온다", [[0, 3, "PS"]]), ("서울로 간다", [[0, 2, "LC"]]), ("비가 온다", [])),
    *(("나는 홍길동이다", [[3, 6, "PS"]]), ("홍길동", [[0, 3, "PS"]]), ("서울", [[0, 2, "LC"]])),
    *(("집에 간다", []), ("누가 서울로", [[3, 5, "LC"]]), ("없다", []), ("또 없다", [])),
]
TAGS = [(text, [[0, 1, "A"], [1, len(text), "B"]]) for text, _ in NAMES]
PAIRS = [
    *(("rome", "로마"), ("oslo", "오슬로"), ("bern", "베른"), ("nice", "니스"), ("kiev", "키예프")),
    *(("lima", "리마"), ("la paz", "라 파스"), ("suva", "수바"), ("bath", "바스")),
    ("turin", "토리노"),
]


def as_json(rows: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(text, json.dumps(label)) for text, label in rows]


LABELS, TARGETS = {"label_column": "annotation"}, {"target_column": "annotation"}
TASKS = {
    "classification": TaskCase(
        REVIEWS,
        LABELS,
        ClassificationConfig(name="classification"),
        [text for text, _ in REVIEWS],
        lambda metrics: metrics["accuracy"] == 1.0,
    ),
    "tags": TaskCase(
        as_json(TAGS),
        LABELS,
        TaggingConfig(name="tagging"),
        [text for text, _ in TAGS],
        lambda metrics: metrics["accuracy"] == 1.0,
    ),
    "spans": TaskCase(
        as_json(NAMES),
        LABELS,
        TaggingConfig(name="tagging", labels=TagLabels.spans, ngram_dim=4),
        [text for text, _ in NAMES],
        lambda metrics: metrics["f1"] == 1.0,
    ),
    "spans_by_features": TaskCase(
        as_json(NAMES),
        LABELS,
        TaggingConfig("tagging", labels=TagLabels.spans, linear_buckets=1 << 16),
        [text for text, _ in NAMES],
        lambda metrics: metrics["f1"] == 1.0,
    ),
    "spaces": TaskCase(
        REVIEWS,
        {},
        TaggingConfig(name="tagging", labels=TagLabels.spaces, head=TagHead.softmax),
        [text.replace(" ", "") for text, _ in REVIEWS],
        lambda metrics: metrics["f1"] == 1.0,
    ),
    "seq2seq": TaskCase(
        PAIRS,
        TARGETS,
        Seq2SeqConfig(name="seq2seq"),
        [source for source, _ in PAIRS],
        lambda metrics: metrics["exact_match"] == 1.0 and metrics["cer"] == 0.0,
        units=32,
        epochs=14,
    ),
    "seq2seq_sampled": TaskCase(  # predictions are fed back, as is the attention of the last step
        PAIRS,
        TARGETS,
        Seq2SeqConfig(name="seq2seq", teacher_forcing=0.8, input_feeding=True, num_beams=2),
        [source for source, _ in PAIRS],
        lambda metrics: metrics["exact_match"] == 1.0,
        units=32,
        copies=1,  # those of an example would be in the same batches
        epochs=60,
    ),
}


def settings_of(case: TaskCase, prepared: Prepared, epochs: int, **parts: Any) -> TrainSettings:
    """Return settings of a small model for a task."""
    model = LSTMConfig("lstm", embedding_dim=case.units, hidden_dim=case.units, num_layers=1)
    parts = {"model": model, "task": case.config} | parts
    return make_settings(prepared, {"epochs": epochs}, **parts)


def train_task_run(folder: Path, name: str) -> Any:
    """Train a run of ``TASKS`` that has learned most examples, and load it."""
    case = TASKS[name]
    prepared = case.prepare(folder / name / "data")
    finish(settings_of(case, prepared, 10), prepared, folder / name / "run")
    return korlm.load(folder / name / "run")
