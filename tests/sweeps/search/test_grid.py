"""A grid is checked completely: an error in its last job is raised before the first one starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LIGHT, Command, TinyCorpus
from hydra.core.override_parser.overrides_parser import OverridesParser

from korlm.sweeps.search.grid import combinations
from korlm.utils.errors import ConfigError


def parsed(*overrides: str) -> list[list[str]]:
    return combinations(OverridesParser.create().parse_overrides(list(overrides)))


def test_all_combinations_of_the_last_overrides() -> None:
    assert parsed("a=1,2", "c=0", "b=range(1,3)", "c=x") == [
        ["a=1", "c=x", "b=1"],
        ["a=1", "c=x", "b=2"],
        ["a=2", "c=x", "b=1"],
        ["a=2", "c=x", "b=2"],
    ]
    assert parsed() == [[]]
    with pytest.raises(ConfigError, match=r"^a=interval\(0,1\): an interval needs hydra"):
        parsed("a=interval(0,1)")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=gru,rnn", "trainer.early_stopping_patience=1,0"],
            "trainer.early_stopping_patience=0: must be 1 or more (job "
            "model=gru_trainer.early_stopping_patience=0, 2 of 4; no job was started)",
        ),
        (["model=gru,ngram"], "(job model=ngram, 2 of 2; no job was started)"),
        (["seed=1,x"], "(job seed=x, 2 of 2; no job was started)"),
        (["corpus.valid=[],[nowhere.txt]"], "corpus.valid: nowhere.txt is neither"),
        (["seed=1", "trainer.epochs=0"], "trainer.epochs=0: must be in [1, 1000000]"),
        (["seed=1,2", "hydra.sweeper.max_batch_size=0"], "hydra.sweeper.max_batch_size=0"),
    ],
)
def test_nothing_starts_if_any_job_is_wrong(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, overrides: list[str], message: str
) -> None:
    error = korlm("train", "-m", *tiny.overrides, *LIGHT, *overrides).error
    assert message in error
    assert not list(tmp_path.iterdir())


def test_a_sweep_that_is_resumed_with_a_mistake_stays_as_it_was(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path
) -> None:
    sweep = [*tiny.overrides, *LIGHT, "trainer.max_steps=1", "trainer.sample_tokens=0"]
    assert korlm("train", "-m", *sweep, "seed=1,2", "hydra.sweeper.max_batch_size=1").code == 0
    (folder,) = tmp_path.glob("outputs/sweeps/*")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    error = korlm("train", "-m", f"resume={folder}", "seed=1,2", "trainer.epochs=2,-2").error
    assert "trainer.epochs=-2: must be in [1, 1000000]" in error
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    pictures = ("sweep.png", "results.tsv")  # written again from the jobs
    assert {p: b for p, b in after.items() if p.name not in pictures} == {
        p: b for p, b in before.items() if p.name not in pictures
    }


def test_other_commands_are_checked_too(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    error = korlm(
        "prepare", "-m", *tiny.overrides, "tokenizer=syllable", "vocab.min_freq=1,0"
    ).error
    assert "vocab.min_freq=0: must be 1 or more (job vocab.min_freq=0, 2 of 2;" in error
    assert not list(tmp_path.rglob("prepared"))
