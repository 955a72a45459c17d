"""The command as users call it: runs in, one table out, mistakes in one line."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Command
from tiny_runs import finish, make_settings, prepare_tiny

from korlm.config import GRUConfig, Mode
from korlm.data.prepared import Prepared

QUICK = [
    *("dynamic.tune_tokens=60", "dynamic.statistics_tokens=60", "dynamic.rates=[0.0001,0.01]"),
    *("cache.sizes=[10,50]", "cache.thetas=[0,0.5]", "device=cpu"),
]
FIGURES = {"perplexity", "loss", "bits_per_char", "num_tokens", "tokens_per_second", "settings"}


class Runs:
    """Two small runs over one prepared corpus, and one over another."""

    def __init__(self, folder: Path) -> None:
        self.prepared = self._prepare(folder / "text", 2)
        self.lstm, self.gru = folder / "lstm", folder / "gru"
        finish(make_settings(self.prepared), self.prepared, self.lstm)
        gru = GRUConfig(name="gru", embedding_dim=6, hidden_dim=6, num_layers=1)
        finish(make_settings(self.prepared, mode=Mode.sentence, model=gru), self.prepared, self.gru)
        other = self._prepare(folder / "other", 15)
        self.foreign = folder / "foreign"
        finish(make_settings(other, {"epochs": 1}), other, self.foreign)

    @staticmethod
    def _prepare(folder: Path, min_freq: int) -> Prepared:
        folder.mkdir()
        return prepare_tiny(folder, min_freq)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    torch.set_num_threads(1)
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Path:
    """A run of this test's own."""
    return Path(shutil.copytree(runs.lstm, tmp_path / "run"))


def evaluations(run: Path) -> list[Path]:
    folder = run / "evaluations"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_one_table_of_all_ways(korlm: Command, runs: Runs, run: Path) -> None:
    ended = korlm("evaluate", f"run={run}", f"mix=[{runs.gru}]", *QUICK)
    assert ended.code == 0, ended.err
    (folder,) = evaluations(run)
    assert {path.name for path in folder.iterdir()} == {".hydra", "metrics.json", "evaluate.log"}
    found = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert list(found) == ["valid", "test"]
    rows = ["carried", "reset", "cache", "dynamic", "gru", "mix", "all"]
    trained = json.loads((run / "metrics.json").read_text("utf-8"))
    for split, ways in found.items():
        assert list(ways) == rows
        for row in ways.values():
            assert row.keys() >= FIGURES
            assert row["num_tokens"] == runs.prepared.stats[split].num_tokens
            assert math.exp(row["loss"]) == pytest.approx(row["perplexity"])
        # Training's own figures are of two columns, each of which begins afresh.
        assert ways["carried"]["loss"] == pytest.approx(trained[split]["loss"], rel=0.02)
    valid, test = found["valid"], found["test"]
    assert valid["cache"]["loss"] <= valid["carried"]["loss"]
    assert valid["mix"]["loss"] <= min(valid["carried"]["loss"], valid["gru"]["loss"])
    assert valid["all"]["loss"] <= min(way["loss"] for way in valid.values())
    assert all(valid[row]["settings"] == test[row]["settings"] for row in rows)
    assert sum(valid["all"]["settings"]["weights"].values()) == pytest.approx(1, abs=1e-3)
    assert valid["all"]["settings"]["weights"].keys() == {"model", "cache", "dynamic", "gru"}
    assert "settings are chosen on valid" not in ended.out
    for row in rows:
        assert f"\n{row} " in ended.out


def test_the_figures_of_a_sentence_run_are_those_of_its_training(
    korlm: Command, runs: Runs, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(runs.gru, tmp_path / "run"))
    assert korlm("evaluate", f"run={run}", "dynamic.rates=[]", "cache.sizes=[]").code == 0
    found = json.loads((evaluations(run)[0] / "metrics.json").read_text("utf-8"))
    trained = json.loads((run / "metrics.json").read_text("utf-8"))
    for split in ("valid", "test"):
        assert list(found[split]) == ["carried", "reset"]
        for key in ("loss", "bits_per_char", "perplexity_known", "oov_rate", "num_chars"):
            assert found[split]["reset"][key] == pytest.approx(trained[split][key], rel=1e-5)


def test_test_can_wait(korlm: Command, run: Path) -> None:
    ended = korlm("evaluate", f"run={run}", "test=false", "dynamic.rates=[]", *QUICK[3:])
    assert ended.code == 0, ended.err
    assert list(json.loads((evaluations(run)[0] / "metrics.json").read_text())) == ["valid"]


def test_the_ngram_row_has_its_name(korlm: Command, runs: Runs, run: Path) -> None:
    ended = korlm("evaluate", f"run={run}", f"ngram={runs.gru}", "dynamic.rates=[]", "test=false")
    assert ended.code == 0, ended.err
    found = json.loads((evaluations(run)[0] / "metrics.json").read_text())["valid"]
    assert list(found) == ["carried", "reset", "cache", "ngram", "mix", "all"]


def test_text_that_has_moved(korlm: Command, runs: Runs, run: Path, tmp_path: Path) -> None:
    home, away = runs.prepared.folder, tmp_path / "away"
    home.rename(away)
    try:
        gone = korlm("evaluate", f"run={run}").error
        assert f"{home}: the prepared corpus of {run} is gone; give prepared=DIR" in gone
        assert not evaluations(run)
        ended = korlm("evaluate", f"run={run}", f"prepared={away}", "dynamic.rates=[]")
        assert ended.code == 0, ended.err
    finally:
        away.rename(home)


def test_another_vocabulary_is_refused(korlm: Command, runs: Runs, run: Path) -> None:
    error = korlm("evaluate", f"run={run}", f"mix=[{runs.foreign}]").error
    assert f"run {runs.foreign}: not the vocabulary of run={run}" in error
    assert "tokens against" in error
    assert not evaluations(run)


def test_no_run(korlm: Command, run: Path, tmp_path: Path) -> None:
    assert korlm("evaluate", "run=nowhere").error.startswith("korlm: run=nowhere: no checkpoints")
    assert "run" in korlm("evaluate").error
    assert "give the directory" in korlm("evaluate", f"run={run}", "ngram=nowhere").error
    (run / "checkpoints" / "best.pt").write_bytes(b"PK nothing")
    assert "damaged" in korlm("evaluate", f"run={run}").error
    (run / "checkpoints" / "best.pt").unlink()
    assert "no checkpoints/best.pt" in korlm("evaluate", f"run={run}").error
    assert not evaluations(run)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cache.sizes=[0]", "cache.sizes=[0]: each must be a finite number, above 0"),
        ("cache.thetas=[]", "cache.thetas=[]: needs a value"),
        ("cache.thetas=[0.2,0.1]", "must rise from value to value"),
        ("dynamic.rates=[-1]", "dynamic.rates=[-1.0]: each must be a finite number, above 0"),
        ("dynamic.segment=0", "dynamic.segment=0: must be 1 or more"),
        ("dynamic.segmnt=5", "did you mean dynamic.segment or"),
        ("threads=0", "threads=0: must be 1 or more"),
    ],
)
def test_settings_out_of_range(korlm: Command, run: Path, override: str, message: str) -> None:
    assert message in korlm("evaluate", f"run={run}", override).error
    assert not evaluations(run)
