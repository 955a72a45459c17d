"""Advice: one line, with the overrides to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LIGHT, Command, TinyCorpus

from korlm.config import TrainerConfig, VocabConfig
from korlm.dataset.prepared import SplitStats
from korlm.tasks.advice import FEW_STEPS, PERPLEXITIES, on_steps, on_unknown


def test_few_steps() -> None:
    """30 epochs of konlpy's 24,482 tokens are 1,050 steps, 4 are 140."""
    assert on_steps(TrainerConfig(epochs=30), 35, 1050) == ""
    four = on_steps(TrainerConfig(epochs=4), 35, 140)
    assert "only 140 optimizer steps" in four and "trainer.epochs=" in four
    assert "model=ngram" in four and "one_pass" not in four
    assert on_steps(TrainerConfig(max_steps=FEW_STEPS), 10_000, FEW_STEPS) == ""
    short = on_steps(TrainerConfig(max_steps=50), 10_000, 50)
    assert f"trainer.max_steps={FEW_STEPS})" in short and "trainer.epochs" not in short
    assert "experiment=one_pass" in on_steps(TrainerConfig(epochs=1), 35, 35)


def stats(num_unk: int) -> SplitStats:
    return SplitStats(100, num_unk, 40, 200, 10, 5.0)


def test_mostly_unknown() -> None:
    assert on_unknown(stats(50), VocabConfig()) == ""
    hint = on_unknown(stats(72), VocabConfig(min_freq=2, max_size=10))
    assert hint.startswith("72% of the tokens of valid are unknown")
    for remedy in ("lower vocab.min_freq=2", "raise vocab.max_size=10", "syllable", "add text"):
        assert remedy in hint
    assert "vocab" not in on_unknown(stats(72), VocabConfig(min_freq=1))


@pytest.mark.parametrize("max_size", [3, 1000])
def test_a_run_logs_it_once(
    korlm: Command, tiny: TinyCorpus, tmp_path: Path, max_size: int
) -> None:
    overrides = [*tiny.overrides, *LIGHT, "tokenizer=eojeol", f"vocab.max_size={max_size}"]
    lines = korlm("train", *overrides, "trainer.max_steps=2").out.splitlines()
    assert sum(" of the tokens of valid are unknown" in line for line in lines) == (max_size == 3)
    assert sum(line.startswith("only 2 optimizer steps") for line in lines) == 1
    assert lines.count(PERPLEXITIES) == 1
    prepared = korlm("prepare", *tiny.overrides, "tokenizer=eojeol", f"vocab.max_size={max_size}")
    assert ("of the tokens of valid are unknown" in prepared.out) == (max_size == 3)


def test_no_such_advice_for_n_grams(korlm: Command, tiny: TinyCorpus) -> None:
    ended = korlm("train", *tiny.overrides, "tokenizer=syllable", "model=ngram")
    assert ended.code == 0, ended.err
    assert "optimizer steps" not in ended.out and PERPLEXITIES not in ended.out
