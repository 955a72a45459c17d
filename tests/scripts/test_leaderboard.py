"""scripts/leaderboard trains small models, keeps finished rows and writes both tables."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPT = ROOT / "scripts" / "bench" / "leaderboard.py"
Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the script in an empty folder: exit code, stdout, stderr.

    Only its trainings are processes of their own.
    """
    monkeypatch.chdir(tmp_path)
    for name, value in (
        *(("PYTHONPATH", str(ROOT)), ("CUDA_VISIBLE_DEVICES", "")),
        ("OMP_NUM_THREADS", "1"),
    ):
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["leaderboard", *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return (end.value.code, *capsys.readouterr())

    return run


def test_rows_are_kept(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("나는 학교에 갔다.\n너는 <밥>을 먹는다.\n" * 40, encoding="utf-8")
    options = ["--quick", "--corpus", "text", "corpus.files=[a.txt]", "trainer.device=cpu"]
    folder = tmp_path / "outputs" / "leaderboard-quick"
    folder.mkdir(parents=True)
    (folder / "lstm-jamo").write_text("")  # a row that cannot be trained
    code, _, err = run(*options)
    assert code == 1
    assert "not done: lstm-jamo; the same command tries them again" in err
    row = (folder / "ngram-syllable" / "row.json").read_text("utf-8")
    (folder / "lstm-jamo").unlink()
    code, out, err = run(*options)
    assert code == 0, err
    assert "1 of 2: ngram-syllable\n2 of 2: lstm-jamo\n" in out
    assert (folder / "ngram-syllable" / "row.json").read_text("utf-8") == row
    lines = (folder / "leaderboard.md").read_text("utf-8").splitlines()
    command = "`scripts/train model=ngram tokenizer=syllable corpus=text 'corpus.files=[a.txt]' "
    assert len(lines) == 8 and any(command in line for line in lines)
    page = (folder / "leaderboard.html").read_text("utf-8")
    assert page.count("<tr>") == 3 and "tokenizer=jamo" in page
    code, out, _ = run(*options, "--only", "ngram")
    assert code == 0 and out.startswith("1 of 1: ngram-syllable\n")
    assert run(*options, "--only", "none")[0] == 2
