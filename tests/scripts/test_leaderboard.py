"""scripts/leaderboard trains small models, keeps finished rows and writes both tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "bench" / "leaderboard.py"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_rows_are_kept(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("나는 학교에 갔다.\n너는 <밥>을 먹는다.\n" * 40, encoding="utf-8")
    options = ["--quick", "--corpus", "text", "corpus.files=[a.txt]", "trainer.device=cpu"]
    first = run(tmp_path, *options, "--only", "ngram")
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "outputs" / "leaderboard-quick"
    row = (folder / "ngram-syllable" / "row.json").read_text("utf-8")
    (folder / "lstm-jamo").write_text("")  # a row that cannot be trained
    failed = run(tmp_path, *options)
    assert failed.returncode == 1
    assert "not done: lstm-jamo; the same command tries them again" in failed.stderr
    (folder / "lstm-jamo").unlink()
    done = run(tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "1 of 2: ngram-syllable\n2 of 2: lstm-jamo\n" in done.stdout
    assert (folder / "ngram-syllable" / "row.json").read_text("utf-8") == row
    lines = (folder / "leaderboard.md").read_text("utf-8").splitlines()
    command = "`scripts/train model=ngram tokenizer=syllable corpus=text 'corpus.files=[a.txt]' "
    assert len(lines) == 8 and any(command in line for line in lines)
    page = (folder / "leaderboard.html").read_text("utf-8")
    assert page.count("<tr>") == 3 and "tokenizer=jamo" in page
    assert run(tmp_path, *options, "--only", "none").returncode == 2
