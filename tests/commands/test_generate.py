"""korlm.generate: text on standard output, errors in one line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command_server import CommandServer
from conftest import Command
from tiny_runs import finish, make_settings, prepare_tiny

from korlm.config import Mode
from korlm.generation.generator import Generator
from korlm.utils.torch_backend import tf32


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    prepared = prepare_tiny(folder)
    for mode in Mode:
        settings = make_settings(prepared, {"epochs": 4}, mode=mode)
        finish(settings, prepared, folder / mode.value)
    return {mode.value: folder / mode.value for mode in Mode}


@pytest.fixture
def run(runs: dict[str, Path]) -> str:
    return f"run={runs['stream']}"


@pytest.mark.parametrize("mode", [mode.value for mode in Mode])
def test_a_sentence(korlm: Command, runs: dict[str, Path], tmp_path: Path, mode: str) -> None:
    run = f"run={runs[mode]}"
    ended = korlm("generate", run, "seed=1")
    assert ended.code == 0 and ended.err == ""
    assert len(ended.out.splitlines()) == 1 and ended.out.strip()
    assert not list(tmp_path.iterdir())
    assert korlm("generate", run, "seed=1").out == ended.out
    assert korlm("generate", run, "seed=2").out != ended.out


def test_full_precision(korlm: Command, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, cuDNN would use TF32, and run.generate would return another text."""
    allowed = []

    def stream(*arguments: object) -> Iterator[str]:
        allowed.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return iter(["가\n"])

    monkeypatch.setattr(Generator, "stream", stream)
    with tf32(True):
        assert korlm("generate", run).out == "가\n"
    assert allowed == [(False, False)]


def test_another_text_each_time(korlm: Command, run: str) -> None:
    texts = [korlm("generate", run, "num_samples=4", "max_tokens=20").out for _ in range(2)]
    assert texts[0] != texts[1]
    assert len(set(texts[0].splitlines())) > 1


@pytest.mark.parametrize("prompt", ["[가] = {나}: \"다\" '라' ", "${run} \\ a=b, "])
def test_a_prompt_needs_no_quotes(korlm: Command, run: str, prompt: str) -> None:
    ended = korlm("generate", run, f"prompt={prompt}", "max_tokens=5")
    assert ended.code == 0, ended.err
    assert ended.out.startswith(prompt) and len(ended.out.strip()) > len(prompt)


@pytest.mark.parametrize("mode", [mode.value for mode in Mode])
def test_several_texts(korlm: Command, runs: dict[str, Path], mode: str) -> None:
    run = f"run={runs[mode]}"
    lines = korlm("generate", run, "num_samples=3", "seed=1").out.splitlines()
    assert len(lines) == 3
    assert korlm("generate", run, "seed=2").out.splitlines() == lines[1:2]
    texts = korlm("generate", run, "num_samples=2", "sentences=2", "max_tokens=300").out
    assert [len(text.splitlines()) for text in texts.split("\n\n")] == [2, 2]


def test_beams(korlm: Command, run: str) -> None:
    best = korlm("generate", run, "beams=6", "num_samples=3", "prompt=나는 ").out.splitlines()
    assert len(set(best)) == 3 and all(text.startswith("나는 ") for text in best)


def test_prompts_from_a_file_and_from_standard_input(
    korlm: Command, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "나는 집에\n너는 \n"
    (tmp_path / "글.txt").write_text(text, encoding="utf-8")
    lines = korlm("generate", run, "prompts=글.txt", "seed=1").out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("나는 집에") and lines[1].startswith("너는 ")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert korlm("generate", run, "prompts=-", "seed=1").out.splitlines() == lines
    assert korlm("generate", run, "prompt=너는 ", "seed=1").out.splitlines() == lines[1:]


def test_completion(korlm: Command, run: str, tmp_path: Path) -> None:
    ended = korlm("generate", run, "mode=complete", "prompt=나는 ㅈ", "num_completions=3")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert 1 <= len(rows) <= 3 and ended.err == ""
    probabilities = [float(probability) for _, probability in rows]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) <= 1
    assert rows[0][0].startswith(("자", "잔", "지", "집"))
    (tmp_path / "a.txt").write_text("나는 ㅈ\n나는 집\n", encoding="utf-8")
    both = korlm("generate", run, "mode=complete", "prompts=a.txt", "num_completions=3").out
    assert both.startswith(ended.out + "\n") and both.count("\n\n") == 1


def test_no_completion(korlm: Command, run: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("나는 xyz\n나는 집\n", encoding="utf-8")
    ended = korlm("generate", run, "mode=complete", "prompts=a.txt", "num_completions=3")
    assert ended.code == 0 and "집" in ended.out
    assert ended.err.startswith("prompt=나는 xyz: no completion: the model knows no eojeol that ")
    assert len(ended.err.splitlines()) == 1


def test_a_closed_pipe_ends_the_command(server: CommandServer, run: str, tmp_path: Path) -> None:
    options = ["num_samples=200", "sentences=9"]
    ended = server.run(tmp_path, "generate", run, *options, unheard=True)
    assert (ended.code, ended.err) == (0, "")


ERRORS = {
    "temperature=-1": "temperature=-1.0: must be in [0, 1000000.0]",
    "prompts=nowhere.txt": "nowhere.txt: there is no such file",
    "tempreture=1": "did you mean temperature",
    "prompts=x prompt=y": "prompts=x: prompt= is given as well",
}


@pytest.mark.parametrize("overrides", ERRORS)
def test_errors(korlm: Command, run: str, overrides: str, tmp_path: Path) -> None:
    error = korlm("generate", run, *overrides.split(" ")).error
    assert ERRORS[overrides] in error
    assert not list(tmp_path.iterdir())


def test_no_run(korlm: Command, tmp_path: Path) -> None:
    assert "run must be given" in korlm("generate").error
    assert "no such directory" in korlm("generate", "run=nowhere").error
    assert not list(tmp_path.iterdir())


def test_an_error_does_not_remove_a_run_in_the_current_folder(
    korlm: Command, tmp_path: Path
) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "metrics.json").write_text("{}")
    assert korlm("generate", "run=nowhere").code == 1
    assert (tmp_path / "metrics.json").exists()


def test_a_prompt_that_is_not_utf8(korlm: Command, run: str) -> None:
    ended = korlm("generate", run, "prompt=\udcb3")
    assert (ended.code, ended.error) == (
        1,
        "korlm: prompt: is not UTF-8; set the terminal to UTF-8",
    )
