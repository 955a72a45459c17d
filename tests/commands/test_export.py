"""korlm.export: the exported folder, its use by other commands, and error messages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Command
from task_cases import TASKS, settings_of
from tiny_runs import finish, make_settings

from korlm.dataset.prepared import Prepared


@pytest.fixture(scope="module")
def trained(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained") / "run"
    finish(make_settings(prepared, {"epochs": 1}), prepared, folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of a run for one test."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_a_table_and_a_folder(korlm: Command, run: Path, prepared: Prepared) -> None:
    ended = korlm("export", f"run={run}")
    assert ended.code == 0, ended.err
    assert ended.err == ""
    lines = ended.out.splitlines()
    num_tokens = prepared.stats["valid"].num_tokens
    assert lines[0] == f"on {num_tokens} tokens of valid, threads: 1"
    assert lines[1].split() == ["size_mb", "step_ms", "max_abs_diff", "perplexity"]
    assert [line.split()[0] for line in lines[2:5]] == ["PyTorch", "step.onnx", "step.int8.onnx"]
    assert lines[5].startswith(f"{run / 'export'}: README.md, begin.npz, config")
    assert {path.name for path in run.iterdir()} >= {"checkpoints", "export"}
    assert "already exists" in korlm("export", f"run={run}").error


def test_commands_take_an_export_for_a_run(korlm: Command, run: Path, tmp_path: Path) -> None:
    assert korlm("export", f"run={run}", "output=given", "formats=[safetensors]").code == 0
    results = []
    for folder in (run, tmp_path / "given"):
        ended = korlm("evaluate", f"run={folder}", "adapt=false", "plot=false")
        assert ended.code == 0, ended.err
        (written,) = (folder / "evaluations").iterdir()
        results.append(json.loads((written / "metrics.json").read_text("utf-8")))
    one, two = ({name: row["loss"] for name, row in part["test"].items()} for part in results)
    assert one == two


def test_a_run_of_a_task(korlm: Command, tmp_path: Path) -> None:
    case = TASKS["classification"]
    prepared = case.prepare(tmp_path / "data")
    finish(settings_of(case, prepared, 1), prepared, tmp_path / "run")
    error = korlm("export", "run=run", "formats=[sherpa]").error
    assert "run: a run of task=classification has no such export" in error
    ended = korlm("export", "run=run")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1].startswith("run/export: README.md, classifier.int8.onnx")
    (tmp_path / "a.txt").write_text("좋다\n", "utf-8")
    one, other = (
        korlm("predict", f"run={run}", "input=a.txt").out for run in ("run", "run/export")
    )
    assert one == other != ""


def test_fewer_tokens(korlm: Command, run: Path) -> None:
    ended = korlm("export", f"run={run}", "tokens=20", "formats=[onnx]", "threads=null")
    assert ended.out.startswith("on 20 tokens of valid, threads: all")
    assert "int8" not in ended.out


def test_missing_text(korlm: Command, run: Path, prepared: Prepared) -> None:
    moved = prepared.folder.rename(prepared.folder.with_name("moved"))
    try:
        ended = korlm("export", f"run={run}")
        assert ended.code == 0, ended.err
        assert "perplexity not measured" in ended.out and "prepared=DIR" in ended.out
        assert "on random tokens" in ended.out
        ended = korlm("export", f"run={run}", f"prepared={moved}", "output=two")
        assert "tokens of valid" in ended.out
        assert "no such prepared corpus" in korlm("export", f"run={run}", "prepared=no").error
    finally:
        moved.rename(prepared.folder)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run=nowhere", "nowhere: no such directory"),
        ("formats=[int8]", "formats=[int8]: int8 is compared with another format"),
        ("formats=[pickle]", "formats"),
        ("device=cuda", "device=cuda: exports are verified on the CPU"),
    ],
)
def test_mistakes(korlm: Command, run: Path, tmp_path: Path, override: str, words: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert words in korlm("export", f"run={run}", override).error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_harms_no_folder_of_another_command(korlm: Command, tmp_path: Path) -> None:
    """The current folder belongs to an evaluation."""
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "metrics.json").write_text("{}")
    assert "no such directory" in korlm("export", "run=nowhere").error
    assert {path.name for path in tmp_path.iterdir()} == {".hydra", "metrics.json"}


WITHOUT_TORCH = "import sys\nsys.modules['torch'] = sys.modules['korlm'] = None\n"


def test_the_example_runs_unchanged(korlm: Command, run: Path, tmp_path: Path) -> None:
    readme = (ROOT / "korlm" / "exporting" / "README.md").read_text(encoding="utf-8")
    head, example, *_ = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert korlm("export", f"run={run}", "output=export").code == 0
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + head + example],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    nats, perplexity = re.fullmatch(r"([\d.]+) nats, perplexity ([\d.]+)\n", done.stdout).groups()
    assert own_nats(run, "나 는 학교 에 가 ㄴ다 . <eos>") == pytest.approx(float(nats), abs=2e-3)
    assert float(perplexity) > 1


def own_nats(folder: Path, sentence: str) -> float:
    from korlm.runs.trained_run import TrainedRun

    run = TrainedRun.load(folder)
    targets = torch.from_numpy(run.vocab.encode(sentence.split()))
    targets[-1] = 3
    inputs = torch.cat([torch.tensor([run.start_id]), targets[:-1]])
    with torch.inference_mode():
        return float(run.model.token_nll(inputs[None], targets[None])[0].sum())
