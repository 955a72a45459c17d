"""korlm.prepare: the printed report and its files."""

import json
import shutil
from pathlib import Path

from conftest import LIGHT, Command, TinyCorpus


def folder_of(tmp_path: Path) -> Path:
    (folder,) = (p for p in (tmp_path / "outputs/prepared").iterdir() if p.name[0] != ".")
    return folder


def test_the_report_is_printed_and_kept(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    made = korlm("prepare", *tiny.overrides, "tokenizer=syllable")
    assert made.code == 0, made.err
    folder = folder_of(tmp_path)
    result = json.loads((folder / "statistics.json").read_text("utf-8"))
    assert result["splits"]["train"]["num_lines"] == 240
    assert "unknown in valid" in made.out and "Zipf" in made.out
    assert f"{folder.relative_to(tmp_path)}: statistics.json, frequencies.png" in made.out
    (folder / "statistics.json").unlink()
    again = korlm("prepare", *tiny.overrides, "tokenizer=syllable")
    assert "unknown in valid" in again.out and (folder / "statistics.json").exists()


def test_no_report_if_it_is_switched_off(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    quiet = korlm("prepare", *tiny.overrides, "tokenizer=syllable", "report=false")
    assert quiet.code == 0 and "unknown in valid" not in quiet.out
    assert korlm("train", *tiny.overrides, *LIGHT, "trainer.max_steps=1").code == 0
    names = {path.name for path in folder_of(tmp_path).iterdir()}
    assert not names & {"statistics.json", "frequencies.png"}
    assert "report" in korlm("train", *tiny.overrides, *LIGHT, "report=false").error


def test_without_its_tokens(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    command = ("prepare", *tiny.overrides, "tokenizer=syllable")
    assert korlm(*command, "report=false").code == 0
    shutil.rmtree(folder_of(tmp_path) / "tokens")
    assert "give report=false" in korlm(*command).error
    assert korlm(*command, "report=false").code == 0
