"""The engine of a small trained run: its results are those of the model."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_cases import TASKS, settings_of
from tiny_runs import finish

pytest.importorskip("fastapi", reason="serving needs it")
import korlm
from korlm.evaluation.token_scores import score_continuous
from korlm.generation.completion import Completer
from korlm.generation.generator import StoppingCriteria
from korlm.generation.sampling import Sampling
from korlm.serving.served_model import ServedLanguageModel, ServedTask


@pytest.fixture(scope="module")
def engine(tiny_run: Callable[[str], Any]) -> Iterator[ServedLanguageModel]:
    with tiny_run("lstm") as run:
        yield ServedLanguageModel(run)


def run_of(engine: ServedLanguageModel):
    return korlm.load(engine._run.folder)


def test_info(engine: ServedLanguageModel) -> None:
    info = engine.info()
    assert info["model"] == "lstm" and info["tokenizer"] == "syllable"
    assert info["task"] == "language_modeling"
    assert info["description"].startswith(f"lstm · lstm · syllable · {info['vocab_size']}")


def test_surprisal_equals_the_scores_of_the_model(engine: ServedLanguageModel) -> None:
    result = engine.surprisal("나는 잔다.\n\n너는 뷁")
    first, second = result["lines"]
    assert [line["line"] for line in (first, second)] == [1, 3]
    assert [t["morph"] for t in first["tokens"]] == ["나", "는", "▁", "잔", "다", "."]
    assert [t["eojeol"] for t in first["tokens"]] == [1, 1, 1, 2, 2, 2]
    assert [t["unknown"] for t in second["tokens"]][-1]
    run = run_of(engine)
    with run.text_encoder() as text_encoder:
        ids = text_encoder.read_texts(["나는 잔다.", "", "너는 뷁"]).ids
    windows = score_continuous(run.model, ids, run.start_id)
    nats = np.concatenate([window.nats.numpy() for window in windows])
    bits = [t["surprisal"] for t in first["tokens"]]
    assert bits == pytest.approx((nats[:6] / math.log(2)).tolist(), abs=1e-4)
    total = first["bits"] + second["bits"]  # <eos> included
    assert total == pytest.approx(nats.sum() / math.log(2), abs=1e-3)


def test_blank_text_has_no_lines(engine: ServedLanguageModel) -> None:
    assert engine.surprisal("") == engine.surprisal(" \n") == {"lines": []}


def test_completions_equal_those_of_the_completer(engine: ServedLanguageModel) -> None:
    result = engine.complete("나는 자", 3)
    with Completer(run_of(engine)) as completer:
        expected = completer.complete("나는 자", 3)
    assert [c["eojeol"] for c in result["completions"]] == [e.text for e in expected.eojeols]
    assert all(c["eojeol"].startswith(("자", "잔")) for c in result["completions"])
    shown = sum(c["probability"] for c in result["completions"])
    assert shown + result["rest"] == pytest.approx(1.0)


def test_the_seed_determines_the_text(engine: ServedLanguageModel) -> None:
    def generate(seed: int) -> str:
        return "".join(engine.generate("나는 ", Sampling(), StoppingCriteria(60, 3), seed))

    texts = [generate(seed) for seed in range(8)]
    assert all(text.startswith("나는 ") for text in texts)
    assert texts[3] == generate(3) and len(set(texts)) > 1


@pytest.mark.parametrize("name", ["classification", "tags", "spans", "spaces", "seq2seq"])
def test_predictions_of_a_task(name: str, tmp_path: Path) -> None:
    case = TASKS[name]
    prepared = case.prepare(tmp_path / "data")
    finish(settings_of(case, prepared, 2), prepared, tmp_path / "run")
    run = korlm.load(tmp_path / "run")
    texts = [case.texts[0], "", case.texts[2]]
    with run:
        engine = ServedTask(run)
        info, answer = engine.info(), engine.predict("\n".join(texts))
    assert answer == {"predictions": run.predict(texts)}
    assert info["labels"] == list(run.labels) and info["task"] == run.settings.task.name
    assert info["description"].startswith(f"run · {run.settings.task.name} · lstm · syllable · ")
