"""The model card of an export, and the examples of the README, which run without korlm."""

from __future__ import annotations

import ast
import copy
import dataclasses
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import ROOT

import korlm
from korlm.config import ExportFormat, UnicodeForm, VocabConfig
from korlm.dataset.vocab import SPECIALS, Vocab
from korlm.exporting.export_run import export_run, formats_of
from korlm.exporting.model_card import model_card, trained_metrics
from korlm.prediction.task_run import TaskRun
from korlm.runs.trained_run import TrainedRun
from korlm.tasks.morpheme_tags import MorphemeTags

WITHOUT = "import sys\nsys.modules['torch'] = sys.modules['korlm'] = None\n"
README = (ROOT / "korlm" / "exporting" / "README.md").read_text(encoding="utf-8")
HEAD, *EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def parts_of(folder: Path) -> tuple[dict[str, Any], str]:
    """The header and the text of a card."""
    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def run_example(run: TrainedRun | TaskRun, folder: Path, graph: str, text: str) -> str:
    """Return what the README's example of a graph prints where korlm is not installed.

    ``folder`` has the export; ``text`` is tokenized into syllables.
    """
    assert run.settings.tokenizer.name == "syllable"
    (example,) = (block for block in EXAMPLES if f"export/{graph}" in block)
    tokens = ["▁" if char.isspace() else char for char in text]
    head = re.sub(r"^tokens = .*$", f"tokens = {tokens}", HEAD, flags=re.M)
    command = [sys.executable, "-c", WITHOUT + head + example]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True).stdout


def test_the_example_of_a_language_model(
    tiny_run: Callable[[str], TrainedRun], tmp_path: Path
) -> None:
    run: Any = korlm.load(tiny_run("lstm").folder)
    export_run(run, tmp_path / "export", license_id="cc-by-4.0")
    header, text = parts_of(tmp_path / "export")
    assert header["language"] == "ko" and header["license"] == "cc-by-4.0"
    assert "syllable" in header["tags"] and header["pipeline_tag"] == "text-generation"
    (result,) = header["model-index"][0]["results"]
    perplexity = trained_metrics(run.folder)["valid"]["perplexity"]
    named = {value["name"]: value["value"] for value in result["metrics"]}
    assert named["valid perplexity"] == perplexity and "test bits_per_char" in named
    assert f"{perplexity:.4g}" in text and "run.score(" in text and "step.int8.onnx" in text
    assert "| `step.onnx` | input | `ids` | int64 | (batch) |" in text
    size = len(run.vocab)
    assert f"| `step.onnx` | output | `log_probs` | float32 | (batch, {size}) |" in text
    assert "| `step.int8.onnx`" not in text
    printed = run_example(run, tmp_path, "step.onnx", "나는 학교에 간다.")
    expected = -run.score(["나는 학교에 간다."], open_vocabulary=False)[0]
    assert float(printed.split(" nats")[0]) == pytest.approx(expected, abs=2e-3)


def test_a_vocabulary_with_a_backslash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    tokens = [*SPECIALS, "가", "\\", "나"]
    vocab = Vocab.restore(tokens, [1] * len(tokens), VocabConfig())
    (tmp_path / "export").mkdir()
    vocab.save(tmp_path / "export" / "vocab.tsv")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(HEAD, found)
    assert list(found["ids"]) == tokens


def test_the_card_of_an_export_of_an_export(
    tiny_run: Callable[[str], TrainedRun], tmp_path: Path
) -> None:
    run = tiny_run("lstm")
    first, second = tmp_path / "first", tmp_path / "second"
    for source, target in ((run.folder, first), (first, second)):
        export_run(korlm.load(source), target, [ExportFormat.safetensors])
    assert trained_metrics(second) == trained_metrics(run.folder) != {}
    assert parts_of(second) == parts_of(first)
    assert ".onnx" not in parts_of(first)[1]


def test_a_folder_without_metrics(tmp_path: Path) -> None:
    for content in ("[]", "{", '{"valid": 3}'):
        (tmp_path / "metrics.json").write_text(content)
        assert trained_metrics(tmp_path) == {}


def test_the_card_says_what_was_changed_in_tokens(
    tiny_run: Callable[[str], TrainedRun], tmp_path: Path
) -> None:
    run = tiny_run("lstm")
    settings = copy.deepcopy(run.settings)
    assert "vocab.tsv" not in model_card(run, "unknown", {}, tmp_path, "")
    settings.corpus.unicode, settings.vocab.lowercase = UnicodeForm.nfkc, True
    card = model_card(dataclasses.replace(run, settings=settings), "unknown", {}, tmp_path, "")
    assert "in `vocab.tsv`: normalize the text to NFKC, write tokens in lower case." in card


def test_the_example_of_a_classifier(
    tiny_task_run: Callable[[str], TaskRun], tmp_path: Path
) -> None:
    run = tiny_task_run("classification")
    export_run(run, tmp_path / "export", formats_of(run))
    header, text = parts_of(tmp_path / "export")
    assert header["pipeline_tag"] == "text-classification" and header["license"] == "unknown"
    assert "run.predict(" in text
    assert "| accuracy |" in text and "temperature" not in text
    (expected,) = run.predict(["나는 학교에 간다."])
    printed = run_example(run, tmp_path, "classifier.onnx", "나는 학교에 간다.")
    assert ast.literal_eval(printed) == pytest.approx(
        {label: expected[f"p_{label}"] for label in run.labels}, abs=1e-5
    )


def test_the_example_of_a_tagger(tiny_task_run: Callable[[str], TaskRun], tmp_path: Path) -> None:
    run = tiny_task_run("tags")
    export_run(run, tmp_path / "export", formats_of(run))
    header, text = parts_of(tmp_path / "export")
    assert header["pipeline_tag"] == "token-classification"
    assert "| `tagger.onnx` | input | `units` | int64 | (batch, units) |" in text
    for example in ("홍길동이 서울로 간다", "누가 비가온다", "1 a"):
        printed = run_example(run, tmp_path, "tagger.onnx", example)
        (expected,) = run.predict([example])
        parts = [f"{part['text']} {part['label']}\n" for part in expected["labels"]]
        assert printed == "".join(parts)


def test_the_numbers_of_tags_of_kkma() -> None:
    (formula,) = re.findall(r"`(1 \+ zlib.*?)`", README)
    tags: Any = MorphemeTags()
    tags._kkma = SimpleNamespace(tokens=lambda texts: [[("나라", "NNG", 0, 2)]])
    expected = [eval(formula, {"zlib": zlib, "name": name}) for name in ("B-NNG", "I-NNG")]
    assert list(tags.of(["나라 "])) == [[*expected, 0]]


@pytest.mark.parametrize("name", ["seq2seq", "seq2seq_sampled"])
def test_the_example_of_sequence_to_sequence(
    tiny_task_run: Callable[[str], TaskRun], name: str, tmp_path: Path
) -> None:
    run = tiny_task_run(name)
    export_run(run, tmp_path / "export", formats_of(run))
    header, _ = parts_of(tmp_path / "export")
    assert header["pipeline_tag"] == "text2text-generation"
    settings = copy.deepcopy(run.settings)
    settings.task = dataclasses.replace(settings.task, num_beams=1)  # type: ignore[call-arg]
    greedy = dataclasses.replace(run, settings=settings)
    for example in ("oslo", "la paz"):
        (expected,) = greedy.predict([example])
        printed = run_example(run, tmp_path, "decoder.onnx", example)
        assert printed.split() == list(expected["prediction"].replace(" ", "▁"))
