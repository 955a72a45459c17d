"""The model card of an export: its header, and its code, which runs without korlm."""

from __future__ import annotations

import ast
import copy
import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tiny_runs import finish, make_settings, prepare_tiny

import korlm
from korlm.api.runs import TaskRun
from korlm.config import (
    ExportFormat,
    SentencePieceConfig,
    TagUnits,
    TokenizerConfig,
    VocabConfig,
)
from korlm.dataset.vocab import SPECIALS, Vocab
from korlm.exporting import usage
from korlm.exporting.export_run import export_run, formats_of
from korlm.exporting.model_card import trained_metrics
from korlm.runs.trained_run import TrainedRun
from korlm.tasks.tagger import Tagger

WITHOUT = "import sys\nsys.modules['torch'] = sys.modules['korlm'] = None\n"


def parts_of(folder: Path) -> tuple[dict[str, Any], str]:
    """The header and the text of a card."""
    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def run_without_korlm(folder: Path, text: str, example: str = "") -> str:
    """Return what the second Python block of a card prints, run where korlm is not installed.

    If an example is given, it replaces that of the card.
    """
    with_korlm, without = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "korlm.load" in with_korlm
    if example:
        without = re.sub(r'^text = ".*"$', f'text = "{example}"', without, flags=re.M)
    command = [sys.executable, "-c", WITHOUT + without]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True).stdout


@pytest.mark.parametrize(
    "tokenizer",
    [
        TokenizerConfig(name="syllable"),
        TokenizerConfig(name="eojeol"),
        SentencePieceConfig(name="sentencepiece", vocab_size=60),
    ],
    ids=lambda config: config.name,
)
def test_the_code_needs_no_korlm(tmp_path: Path, tokenizer: TokenizerConfig) -> None:
    torch.set_num_threads(1)
    prepared = prepare_tiny(tmp_path, min_freq=1, tokenizer=tokenizer)
    finish(make_settings(prepared, tokenizer=tokenizer), prepared, tmp_path / "run")
    run: Any = korlm.load(tmp_path / "run")
    export_run(run, tmp_path / "export", license_id="cc-by-4.0")
    header, text = parts_of(tmp_path / "export")
    assert header["language"] == "ko" and header["license"] == "cc-by-4.0"
    assert tokenizer.name in header["tags"] and header["pipeline_tag"] == "text-generation"
    (result,) = header["model-index"][0]["results"]
    perplexity = trained_metrics(run.folder)["valid"]["perplexity"]
    named = {value["name"]: value["value"] for value in result["metrics"]}
    assert named["valid perplexity"] == perplexity and "test bits_per_char" in named
    assert f"{perplexity:.4g}" in text and "step.int8.onnx" in text
    printed = run_without_korlm(tmp_path / "export", text)
    expected = -run.score(["나는 학교에 간다."], open_vocabulary=False)[0]
    assert float(printed.removesuffix(" nats\n")) == pytest.approx(expected, abs=2e-3)


def test_a_vocabulary_with_a_backslash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [*SPECIALS, "가", "\\", "나"]
    vocab = Vocab.restore(tokens, [1] * len(tokens), VocabConfig())
    vocab.save(tmp_path / "vocab.tsv")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(usage.VOCAB, found)
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


def test_a_folder_without_metrics(tmp_path: Path) -> None:
    for content in ("[]", "{", '{"valid": 3}'):
        (tmp_path / "metrics.json").write_text(content)
        assert trained_metrics(tmp_path) == {}


def test_the_card_of_a_task(tiny_task_run: Callable[[str], TaskRun], tmp_path: Path) -> None:
    run = tiny_task_run("classification")
    export_run(run, tmp_path / "export", formats_of(run))
    header, text = parts_of(tmp_path / "export")
    assert header["pipeline_tag"] == "text-classification" and header["license"] == "unknown"
    assert "run.predict(" in text
    assert "| accuracy |" in text and "temperature" not in text
    (expected,) = run.predict(["나는 학교에 간다."])
    printed = ast.literal_eval(run_without_korlm(tmp_path / "export", text))
    assert printed == pytest.approx(
        {label: expected[f"p_{label}"] for label in run.labels}, abs=1e-5
    )


@pytest.mark.parametrize("name", ["tags", "eojeols", "spans", "spans_by_features", "spaces"])
def test_the_card_of_a_tagger(
    tiny_task_run: Callable[[str], TaskRun], name: str, tmp_path: Path
) -> None:
    run = tiny_task_run("tags" if name == "eojeols" else name)
    if name == "eojeols":
        run = with_task(run, units=TagUnits.eojeol)
    export_run(run, tmp_path / "export", formats_of(run))
    header, text = parts_of(tmp_path / "export")
    assert header["pipeline_tag"] == "token-classification"
    for example in ("홍길동이 서울로 간다", "누가 비가온다", "1 a"):
        printed = run_without_korlm(tmp_path / "export", text, example)
        (expected,) = run.predict([example])
        if name == "spaces":
            assert printed == expected["spaced"] + "\n"
        else:
            parts = [f"{part['text']}\t{part['label']}\n" for part in expected["labels"]]
            assert printed == "".join(parts)


@pytest.mark.parametrize("name", ["seq2seq", "seq2seq_sampled"])
def test_the_card_of_sequence_to_sequence(
    tiny_task_run: Callable[[str], TaskRun], name: str, tmp_path: Path
) -> None:
    run = tiny_task_run(name)
    export_run(run, tmp_path / "export", formats_of(run))
    header, text = parts_of(tmp_path / "export")
    assert header["pipeline_tag"] == "text2text-generation"
    greedy = with_task(run, num_beams=1)
    for example in ("oslo", "la paz"):
        (expected,) = greedy.predict([example])
        printed = run_without_korlm(tmp_path / "export", text, example)
        assert printed == expected["prediction"] + "\n"


def test_the_card_of_a_tagger_with_tags_of_kkma(
    tiny_task_run: Callable[[str], TaskRun], tmp_path: Path
) -> None:
    run = with_task(tiny_task_run("tags"), kkma_dim=2)
    torch.manual_seed(0)
    model = Tagger(run.settings, run.vocab, run.labels).eval()
    for weights in model.parameters():  # the tags decide
        torch.nn.init.normal_(weights)
    run = dataclasses.replace(run, model=model)
    export_run(run, tmp_path / "export", formats_of(run))
    _, text = parts_of(tmp_path / "export")
    morphemes = [("NNG", 0, 3), ("JKS", 2, 4), ("VV", 5, 6)]
    kkma = SimpleNamespace(tokens=lambda texts: [[("", *part) for part in morphemes]] * len(texts))
    predictor: Any = run.predictor
    predictor._morpheme_tags._kkma = kkma
    (expected,) = run.predict(["홍길동이 온다"])
    assert "morphemes = []" in text
    example = text.replace("morphemes = []", f"morphemes = {morphemes}")
    printed = run_without_korlm(tmp_path / "export", example, "홍길동이 온다")
    assert printed == "".join(f"{part['text']}\t{part['label']}\n" for part in expected["labels"])
    assert printed != run_without_korlm(tmp_path / "export", text, "홍길동이 온다")


def with_task(run: TaskRun, **changes: Any) -> TaskRun:
    """Return a run with other settings of its task."""
    settings = copy.deepcopy(run.settings)
    settings.task = dataclasses.replace(settings.task, **changes)  # type: ignore[type-var]
    return dataclasses.replace(run, settings=settings)
