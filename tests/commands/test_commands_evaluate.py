"""The command: metrics of one run in all modes, of several runs, and error messages."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from tiny_runs import corpus_in, finish, make_settings, prepare_tiny

from korlm.config import GRUConfig, Mode, TokenizerConfig, VocabConfig
from korlm.dataset.prepare import prepare
from korlm.dataset.prepared import Prepared

QUICK = [
    *(
        "dynamic.tune_tokens=60",
        "dynamic.statistics_tokens=60",
        "dynamic.learning_rates=[0.0001,0.01]",
    ),
    *("cache.sizes=[10,50]", "cache.flatness=[0,0.5]", "device=cpu"),
]
FILES = {
    *(".hydra", "metrics.json", "evaluate.log"),
    *("documents.tsv", "bands.tsv", "positions.tsv"),
}
FEW = ["bootstrap.samples=100", "plot=false"]
KEYS = {"perplexity", "loss", "bits_per_char", "num_tokens", "tokens_per_second", "settings"}


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
        corpus, eojeol = corpus_in(folder / "text"), TokenizerConfig(name="eojeol")
        third = prepare(corpus, eojeol, VocabConfig(min_freq=1), folder / "text")
        self.eojeol = folder / "2026-01-01_00-00-00_eojeol"
        settings = make_settings(third, {"epochs": 1}, tokenizer=eojeol)
        finish(settings, third, self.eojeol)

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
    """Return a copy of a run for one test."""
    return Path(shutil.copytree(runs.lstm, tmp_path / "run"))


def evaluations(run: Path) -> list[Path]:
    folder = run / "evaluations"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_all_modes_of_one_run(korlm: Command, runs: Runs, run: Path) -> None:
    ended = korlm("evaluate", f"run={run}", f"mix=[{runs.gru}]", *QUICK)
    assert ended.code == 0, ended.err
    (folder,) = evaluations(run)
    pictures = {"breakdown_valid.png", "breakdown_test.png"}
    assert {path.name for path in folder.iterdir()} == {*FILES, *pictures}
    result = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert list(result) == ["valid", "test"]
    rows = ["carried", "reset", "cache", "dynamic", "gru", "mix", "all"]
    trained = json.loads((run / "metrics.json").read_text("utf-8"))
    for split, modes in result.items():
        assert list(modes) == rows
        for row in modes.values():
            assert row.keys() >= KEYS
            assert row["num_tokens"] == runs.prepared.stats[split].num_tokens
            assert math.exp(row["loss"]) == pytest.approx(row["perplexity"])
        # Evaluation in training resets the state in each of two columns.
        assert modes["carried"]["loss"] == pytest.approx(trained[split]["loss"], rel=0.02)
    valid, test = result["valid"], result["test"]
    assert valid["cache"]["loss"] <= valid["carried"]["loss"]
    assert valid["mix"]["loss"] <= min(valid["carried"]["loss"], valid["gru"]["loss"])
    assert valid["all"]["loss"] <= min(row["loss"] for row in valid.values())
    assert all(valid[row]["settings"] == test[row]["settings"] for row in rows)
    assert sum(valid["all"]["settings"]["weights"].values()) == pytest.approx(1, abs=1e-3)
    assert valid["all"]["settings"]["weights"].keys() == {"model", "cache", "dynamic", "gru"}
    assert "no test split" not in ended.out
    for row in rows:
        assert f"\n{row} " in ended.out


def test_a_run_of_sentences_has_the_metrics_of_its_training(
    korlm: Command, runs: Runs, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(runs.gru, tmp_path / "run"))
    few = ["dynamic.learning_rates=[]", "cache.sizes=[]", *FEW]
    assert korlm("evaluate", f"run={run}", *few).code == 0
    result = json.loads((evaluations(run)[0] / "metrics.json").read_text("utf-8"))
    trained = json.loads((run / "metrics.json").read_text("utf-8"))
    for split in ("valid", "test"):
        assert list(result[split]) == ["carried", "reset"]
        for key in ("loss", "bits_per_char", "perplexity_known", "oov_rate", "num_chars"):
            assert result[split]["reset"][key] == pytest.approx(trained[split][key], rel=1e-5)


def test_the_ngram_mode_without_test(korlm: Command, runs: Runs, run: Path) -> None:
    few = ["dynamic.learning_rates=[]", "test=false", *FEW]
    ended = korlm("evaluate", f"run={run}", f"ngram={runs.gru}", *few)
    assert ended.code == 0, ended.err
    result = json.loads((evaluations(run)[0] / "metrics.json").read_text())
    assert list(result) == ["valid"]
    assert list(result["valid"]) == ["carried", "reset", "cache", "ngram", "mix", "all"]


@pytest.fixture
def away(runs: Runs, tmp_path: Path) -> Iterator[Path]:
    """Move the prepared corpus of the runs to another path for one test."""
    away = tmp_path / "away"
    runs.prepared.folder.rename(away)
    yield away
    away.rename(runs.prepared.folder)


def test_a_moved_prepared_corpus(korlm: Command, runs: Runs, run: Path, away: Path) -> None:
    home = runs.prepared.folder
    error = korlm("evaluate", f"run={run}").error
    assert f"{home}: the prepared corpus of {run} does not exist; give its new path" in error
    assert not evaluations(run)
    ended = korlm("evaluate", f"run={run}", f"prepared={away}", "adapt=false", *FEW)
    assert ended.code == 0, ended.err


def test_another_vocabulary_is_refused(korlm: Command, runs: Runs, run: Path) -> None:
    error = korlm("evaluate", f"run={run}", f"mix=[{runs.foreign}]").error
    assert f"the vocabularies of run={run} and run {runs.foreign} differ" in error
    assert "tokens); train both" in error
    assert not evaluations(run)


def test_no_run(korlm: Command, run: Path, tmp_path: Path) -> None:
    assert korlm("evaluate", "run=nowhere").error.startswith(
        "korlm: run=nowhere: no such directory"
    )
    assert "run" in korlm("evaluate").error
    assert "give a run directory" in korlm("evaluate", f"run={run}", "ngram=nowhere").error
    (run / "checkpoints" / "best.pt").write_bytes(b"PK nothing")
    assert "damaged" in korlm("evaluate", f"run={run}").error
    (run / "checkpoints" / "best.pt").unlink()
    assert "has no checkpoints/best.pt" in korlm("evaluate", f"run={run}").error
    assert not evaluations(run)
    assert not (tmp_path / "nowhere").exists()


def text_of(runs: Runs, split: str = "valid") -> list[str]:
    return ["corpus=text", f"corpus.files=[{runs.prepared.folder.parents[1] / split}.txt]"]


def metrics_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    return result


COUNTED = ("num_tokens", "num_unk", "num_eojeol", "num_chars")
SUMMED = ("loss", "perplexity", "perplexity_known", "eojeol_perplexity", "bits_per_char")


@pytest.mark.parametrize("name", ["lstm", "gru", "eojeol"])
def test_a_file_is_evaluated_as_the_prepared_corpus(
    korlm: Command, runs: Runs, tmp_path: Path, name: str
) -> None:
    """The validation split, once from the prepared corpus and once from the file."""
    run = Path(shutil.copytree(getattr(runs, name), tmp_path / "run"))
    plain = [f"run={run}", "adapt=false", "test=false", *FEW]
    assert korlm("evaluate", *plain).code == 0
    assert korlm("evaluate", *plain, *text_of(runs)).code == 0
    own, other = (metrics_of(folder) for folder in evaluations(run))
    assert list(own) == ["valid"] and list(other) == ["text"]
    assert list(own["valid"]) == list(other["text"]) == ["carried", "reset"]
    for mode, metrics in own["valid"].items():
        for key in COUNTED:
            assert other["text"][mode][key] == metrics[key]
        for key in SUMMED:
            assert other["text"][mode][key] == pytest.approx(metrics[key], rel=1e-5)
        assert other["text"][mode]["bands"] == metrics["bands"]
        assert other["text"][mode]["intervals"] == metrics["intervals"]


def test_hyperparameters_for_another_text_come_from_valid(
    korlm: Command, runs: Runs, run: Path
) -> None:
    common = [f"run={run}", f"mix=[{runs.gru}]", *QUICK, *FEW]
    assert korlm("evaluate", *common).code == 0
    ended = korlm("evaluate", *common, *text_of(runs, "test"), "corpus.name=mine")
    assert ended.code == 0, ended.err
    own, other = (metrics_of(folder) for folder in evaluations(run))
    assert list(other) == ["mine"]
    assert list(other["mine"]) == list(own["test"])
    for mode, metrics in own["test"].items():
        assert other["mine"][mode]["settings"] == metrics["settings"]
        assert other["mine"][mode]["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert "syllable: lines: 9 ok" in ended.out


@pytest.mark.usefixtures("away")
def test_another_text_without_the_prepared_corpus(korlm: Command, runs: Runs, run: Path) -> None:
    ended = korlm("evaluate", f"run={run}", f"mix=[{runs.gru}]", *text_of(runs), *FEW)
    assert ended.code == 0, ended.err
    message = f"prepared corpus {runs.prepared.folder} not found: skipping cache and dynamic"
    assert message in ended.out + ended.err
    result = metrics_of(evaluations(run)[0])["text"]
    assert list(result) == ["carried", "reset", "gru", "mix"]
    assert result["mix"]["settings"]["weights"] == {"model": 0.5, "gru": 0.5}


def test_several_tokenizers_in_one_table(korlm: Command, runs: Runs, tmp_path: Path) -> None:
    ended = korlm(
        "evaluate", f"run=[{runs.lstm},{runs.eojeol},{runs.gru}]", "bootstrap.samples=100"
    )
    assert ended.code == 0, ended.err
    (folder,) = (tmp_path / "outputs" / "evaluations").iterdir()
    pictures = {"breakdown_valid.png", "breakdown_test.png"}
    assert {path.name for path in folder.iterdir()} == {*FILES, *pictures}
    for picture in pictures:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    actual = metrics_of(folder)
    assert list(actual) == ["valid", "test"]
    rows = ["lstm", "lstm reset", "eojeol", "eojeol reset", "gru", "gru carried"]
    for split, metrics in actual.items():
        assert list(metrics) == rows
        assert len({row["num_chars"] for row in metrics.values()}) == 1
        assert len({row["num_eojeol"] for row in metrics.values()}) == 1
        assert metrics["lstm"]["num_tokens"] > metrics["eojeol"]["num_tokens"]
        assert [metrics[row]["tokenizer"] for row in rows[1:4]] == ["syllable", "eojeol", "eojeol"]
        first = metrics["lstm"]
        for row, part in list(metrics.items())[1:]:
            against = part["against"]
            assert against["row"] == "lstm"
            assert ("loss" in against) == (not row.startswith("eojeol"))
            expected = part["bits_per_char"] - first["bits_per_char"]
            assert against["bits_per_char"]["difference"] == pytest.approx(expected)
            assert 0 < against["p"] <= 1
        open_nats = first["loss"] * first["num_tokens"] + runs.prepared.stats[split].spelling_nats
        per_eojeol = math.exp(open_nats / first["num_eojeol"])
        assert first["eojeol_perplexity"] == pytest.approx(per_eojeol)
    assert "\neojeol " in ended.out and "against lstm" in ended.out


def test_globs_name_runs(korlm: Command, runs: Runs, tmp_path: Path) -> None:
    for name in ("2026-01-01_10-00-00_a", "2026-01-02_10-00-00_b"):
        shutil.copytree(runs.lstm, tmp_path / "runs" / name)
    (tmp_path / "runs" / "broken").mkdir()
    ended = korlm("evaluate", "run=runs/*", *text_of(runs), "outputs=elsewhere", *FEW)
    assert ended.code == 0, ended.err
    (folder,) = (tmp_path / "elsewhere" / "evaluations").iterdir()
    result = metrics_of(folder)["text"]
    assert list(result) == ["a", "a reset", "b", "b reset"]
    assert result["b"]["against"]["bits_per_char"] == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert result["b"]["against"]["p"] == 1.0
    one = korlm("evaluate", "run=runs/*_b", *text_of(runs), "adapt=false", *FEW)
    assert one.code == 0, one.err
    (folder,) = evaluations(tmp_path / "runs" / "2026-01-02_10-00-00_b")
    assert list(metrics_of(folder)["text"]) == ["carried", "reset"]


def test_several_runs_with_an_ngram_model(korlm: Command, runs: Runs, tmp_path: Path) -> None:
    ended = korlm("evaluate", f"run=[{runs.lstm},{runs.gru}]", f"ngram={runs.gru}", *FEW)
    assert ended.code == 0, ended.err
    (folder,) = (tmp_path / "outputs" / "evaluations").iterdir()
    # gru mixed with itself has the same loss, so that it has no row.
    rows = ["lstm", "ngram", "lstm reset", "lstm mix", "gru", "gru carried"]
    assert list(metrics_of(folder)["valid"]) == rows


def test_runs_of_different_texts(korlm: Command, runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "third"
    folder.mkdir()
    third = prepare_tiny(folder)
    valid = folder / "valid.txt"
    valid.write_text(valid.read_text("utf-8") * 2, "utf-8")
    third = prepare(corpus_in(folder), TokenizerConfig(name="syllable"), VocabConfig(), folder)
    finish(make_settings(third, {"epochs": 1}), third, folder / "run")
    both = [f"run=[{runs.lstm},{folder / 'run'}]", *FEW]
    error = korlm("evaluate", *both).error
    assert error.startswith("korlm: valid of lstm (")
    assert "not the same text" in error and "corpus=text 'corpus.files=[FILE]'" in error
    assert not (tmp_path / "outputs").exists()
    assert korlm("evaluate", *both, *text_of(runs)).code == 0


def test_texts_that_cannot_be_evaluated(korlm: Command, run: Path, tmp_path: Path) -> None:
    english = tmp_path / "english.txt"
    english.write_text("no Korean\nat all\n", encoding="utf-8")
    texts = {
        f"[{english}]": f"corpus=text: no Hangul in {english}; give Korean text",
        "[nowhere.txt]": "nowhere.txt is neither a file, a folder nor a glob",
        "[]": "no text was named",
    }
    for files, message in texts.items():
        error = korlm("evaluate", f"run={run}", "corpus=text", f"corpus.files={files}", *FEW).error
        assert message in error
    named = ["corpus=text", f"corpus.files=[{english}]", "corpus.name=valid"]
    assert "is the name of a split" in korlm("evaluate", f"run={run}", *named).error
    unknown = korlm("evaluate", f"run={run}", "corpus=text", "corpus.fles=[x]").error
    assert "did you mean corpus.files" in unknown
    for override in ("corpus.files=[x]", "+corpus.files=[x]", "corpus={name:x,files:[x]}"):
        error = korlm("evaluate", f"run={run}", override).error
        assert "choose the group as well: corpus=konlpy|nsmc|text|tsv" in error
    assert not evaluations(run)


def test_missing_runs(korlm: Command, runs: Runs, tmp_path: Path) -> None:
    assert "run=none/*: matches no directory with" in korlm("evaluate", "run=none/*").error
    error = korlm("evaluate", f"run=[{runs.lstm},nowhere]").error
    assert error.startswith("korlm: run=nowhere: no such directory")
    assert "must be the directory of a run, a list" in korlm("evaluate", "run=[]").error
    assert korlm("evaluate", "run={a:b}").error.startswith("korlm: run={a:b}: no such directory")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dynamic.learning_rates=[-1]", "dynamic.learning_rates=[-1.0]: each must be above 0"),
        ("dynamic.segmnt=5", "did you mean dynamic.segment or"),
    ],
)
def test_wrong_settings(korlm: Command, run: Path, override: str, message: str) -> None:
    assert message in korlm("evaluate", f"run={run}", override).error
    assert not evaluations(run)
