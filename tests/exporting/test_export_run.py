"""The export folder is complete and verified, or absent."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_cases import TASKS
from tiny_runs import finish, make_settings, prepare_tiny

import korlm
from korlm.api.runs import TaskRun
from korlm.config import (
    ExportFormat,
    GRUConfig,
    InitialState,
    Mode,
    SentencePieceConfig,
)
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.exporting import export_run as export_run_module
from korlm.exporting import onnx_files, verify
from korlm.exporting.export_run import COMMON, export_run, export_table, formats_of
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import (
    CheckpointError,
    ExportError,
    MissingPackageError,
    OutputError,
    install_command,
)

FILES = {
    *("config.json", "vocab.tsv", "model.safetensors", "spelling.safetensors"),
    *("begin.npz", "step.onnx", "step.int8.onnx", "export.json", "README.md"),
}


@pytest.fixture
def run(tiny_run: Callable[[str], TrainedRun]) -> TrainedRun:
    return tiny_run("lstm")


@pytest.fixture
def prepared(run: TrainedRun) -> Prepared:
    return open_prepared(run.prepared)


def train(prepared: Prepared, folder: Path, **parts: Any) -> TrainedRun:
    finish(make_settings(prepared, **parts), prepared, folder)
    return korlm.load(folder)


def test_all_formats(run: TrainedRun, prepared: Prepared, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "export"
    figures = export_run(run, folder, ids=prepared.ids("valid"))
    assert {path.name for path in folder.iterdir()} == FILES
    assert list(folder.parent.iterdir()) == [folder]
    assert json.loads((folder / "export.json").read_text("utf-8")) == figures
    assert figures["num_tokens"] == prepared.stats["valid"].num_tokens
    torch_row, exact, small = figures["models"].values()
    assert exact["max_abs_diff"] < 1e-5 < small["max_abs_diff"] < 0.5
    trained = json.loads((run.folder / "metrics.json").read_text("utf-8"))["valid"]["loss"]
    loss = math.log(exact["perplexity"])
    assert loss == pytest.approx(trained, rel=0.03)  # measured in two columns
    assert math.log(small["perplexity"]) == pytest.approx(loss, abs=0.02)
    assert all(row["step_ms"] > 0 for row in (torch_row, exact, small))
    size = (folder / "step.int8.onnx").stat().st_size
    assert small["size_mb"] == size / 1e6 < exact["size_mb"]
    table = export_table(figures)
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.splitlines()[1].split()[0] == "PyTorch" and " - " in table


def test_sentence_mode_with_learned_initial_state(prepared: Prepared, tmp_path: Path) -> None:
    model = GRUConfig(name="gru", embedding_dim=8, hidden_dim=8, initial_state=InitialState.learned)
    run = train(prepared, tmp_path / "run", mode=Mode.sentence, model=model)
    figures = export_run(run, tmp_path / "export", ids=prepared.ids("valid"))
    trained = json.loads((run.folder / "metrics.json").read_text("utf-8"))["valid"]["loss"]
    assert math.log(figures["models"]["step.onnx"]["perplexity"]) == pytest.approx(trained)
    with np.load(tmp_path / "export" / "begin.npz", allow_pickle=False) as begin:
        assert {name: part.shape for name, part in begin.items()} == {"h0": (1, 8), "h1": (1, 8)}
        assert begin["h0"].any()


def test_without_a_text(run: TrainedRun, tmp_path: Path) -> None:
    figures = export_run(run, tmp_path / "export")
    assert figures["num_tokens"] == 0
    assert figures["models"]["step.onnx"]["max_abs_diff"] < 1e-5
    assert "perplexity" not in figures["models"]["step.onnx"]
    head, torch_row, *_ = export_table(figures).splitlines()
    assert head.split() == ["size_mb", "step_ms", "max_abs_diff"] and torch_row.endswith(" -")


def test_single_formats(run: TrainedRun, tmp_path: Path) -> None:
    export_run(run, tmp_path / "one", [ExportFormat.safetensors])
    onnx = {"begin.npz", "step.onnx", "step.int8.onnx"}
    assert {path.name for path in (tmp_path / "one").iterdir()} == FILES - onnx
    export_run(run, tmp_path / "two", [ExportFormat.onnx])
    expected = {*FILES} - {"model.safetensors", "spelling.safetensors", "step.int8.onnx"}
    assert {path.name for path in (tmp_path / "two").iterdir()} == expected


def test_detokenizer_is_copied(run: TrainedRun, tmp_path: Path) -> None:
    path = run.folder / "recomposition.npz"
    path.write_bytes(b"rules")
    try:
        export_run(run, tmp_path / "export", [ExportFormat.safetensors])
    finally:
        path.unlink()
    assert (tmp_path / "export" / "recomposition.npz").read_bytes() == b"rules"


def test_export_of_an_export(run: TrainedRun, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for source, target in ((run.folder, first), (first, second)):
        export_run(korlm.load(source), target)
    for name in FILES - {"export.json", "README.md"}:  # these have measurements
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("formats", [COMMON, [ExportFormat.sherpa]])
def test_ngram_model_has_no_onnx(
    tiny_run: Callable[[str], TrainedRun], tmp_path: Path, formats: Sequence[ExportFormat]
) -> None:
    run = tiny_run("ngram")
    with pytest.raises(ExportError, match=r"model=ngram .* model\.write_arpa=true"):
        export_run(run, tmp_path / "export", formats)
    assert not (tmp_path / "export").exists()
    export_run(run, tmp_path / "export", formats_of(run))
    assert korlm.load(tmp_path / "export").model.vocab_size == len(run.vocab)


@pytest.mark.parametrize("name", TASKS)
def test_tasks(tiny_task_run: Callable[[str], TaskRun], name: str, tmp_path: Path) -> None:
    run, texts = tiny_task_run(name), TASKS[name].texts
    with pytest.raises(ExportError, match=r"a run of task=\w+ has no such export"):
        export_run(run, tmp_path / "export", [ExportFormat.sherpa])
    ids = open_prepared(run.prepared).ids("valid")
    figures = export_run(run, tmp_path / "export", formats_of(run), ids)
    names = {path.name for path in (tmp_path / "export").iterdir()}
    graphs = {"classification": ["classifier"], "seq2seq": ["encoder", "decoder"]}
    stems = graphs.get(run.settings.task.name, ["tagger"])
    files = {f"{stem}{ending}" for stem in stems for ending in (".onnx", ".int8.onnx")}
    assert names == FILES - {"begin.npz", "step.onnx", "step.int8.onnx"} | files
    assert {*figures["models"]} == {"PyTorch", *files} and figures["num_tokens"] == 0
    exact, small = (figures["models"][f"{stems[-1]}{end}"] for end in (".onnx", ".int8.onnx"))
    assert exact["max_abs_diff"] < 1e-5 < small["max_abs_diff"]
    assert export_table(figures).split()[0] == "size_mb"
    config = json.loads((tmp_path / "export" / "config.json").read_text("utf-8"))
    assert config["task"] == run.settings.task.name and config["labels"] == list(run.labels)
    assert "start_id" not in config
    exported = korlm.load(tmp_path / "export")
    assert exported.labels == run.labels
    assert exported.predict(texts) == run.predict(texts)


def test_a_task_without_a_text(tiny_task_run: Callable[[str], TaskRun], tmp_path: Path) -> None:
    for name in ("spans", "seq2seq"):
        figures = export_run(tiny_task_run(name), tmp_path / name, [ExportFormat.onnx])
        assert list(figures["models"].values())[-1]["max_abs_diff"] < 1e-5


def test_a_trained_tokenizer_is_kept(tmp_path: Path) -> None:
    tokenizer = SentencePieceConfig(name="sentencepiece", vocab_size=40)
    prepared = prepare_tiny(tmp_path, tokenizer=tokenizer)
    run = train(prepared, tmp_path / "run", tokenizer=tokenizer)
    export_run(run, tmp_path / "export", [ExportFormat.safetensors])
    exported = korlm.load(tmp_path / "export")
    assert exported.tokenizer_model == run.tokenizer_model is not None
    assert exported.score("나는 잔다.") == run.score("나는 잔다.")
    path = tmp_path / "export" / "tokenizer.model"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"tokenizer\.model: damaged or missing"):
        korlm.load(tmp_path / "export")


def test_existing_folder_is_not_changed(run: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    with pytest.raises(ExportError, match=r"already exists: use another output="):
        export_run(run, tmp_path / "export")
    assert list(tmp_path.rglob("*")) == [tmp_path / "export"]


def test_a_second_export_into_the_same_folder_says_that_the_first_has_written_it(
    run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has looked for the folder before the first was done."""
    folder = tmp_path / "export"
    export_run(run, folder, [ExportFormat.safetensors])
    monkeypatch.setattr(export_run_module, "_check_folder", lambda folder: None)
    with pytest.raises(OutputError, match=r"export: it exists, perhaps written by another process"):
        export_run(run, folder, [ExportFormat.safetensors])


def test_onnx_predicts_differently(
    run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "MAX_DIFFERENCE", 0.0)
    with pytest.raises(ExportError, match=r"differ by .* from those of PyTorch \(limit 0\)"):
        export_run(run, tmp_path / "export")
    assert not list(tmp_path.iterdir())


def test_nan_weights(run: TrainedRun, tmp_path: Path) -> None:
    broken = korlm.load(run.folder)
    with torch.no_grad():
        next(broken.model.parameters()).fill_(math.nan)
    with pytest.raises(ExportError, match=r"differ by nan"):
        export_run(broken, tmp_path / "export")
    assert not list(tmp_path.iterdir())


def test_nan_of_a_quantized_model(
    run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    differences = iter([0.0, math.nan])
    monkeypatch.setattr(verify, "largest_difference", lambda *_: next(differences))
    expected = r"log-probabilities of step\.int8\.onnx are not numbers: give formats without int8"
    with pytest.raises(ExportError, match=expected):
        export_run(run, tmp_path / "export")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_packages(
    run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in ("onnx_files", "onnx_graph", "onnx_step", "sherpa", "verify"):
        monkeypatch.delitem(sys.modules, f"korlm.exporting.{name}", raising=False)
        monkeypatch.delattr(f"korlm.exporting.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    line = f"the package {package} is not installed: {install_command('onnx', 'onnxruntime')}"
    with pytest.raises(MissingPackageError, match=re.escape(line)):
        export_run(run, tmp_path / "export")
    assert not list(tmp_path.iterdir())


def test_interrupted_export_leaves_nothing(
    run: TrainedRun, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from korlm.exporting import verify

    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "perplexity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_run(run, tmp_path / "export", ids=prepared.ids("valid"))
    assert not list(tmp_path.iterdir())


def test_unwritable_folder(run: TrainedRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"give another output=FOLDER"):
        export_run(run, tmp_path / "file" / "export")
