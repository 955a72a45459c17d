"""A small trained run behind the server: what it answers is what the model says."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tiny_runs import finish, make_settings, prepare_tiny

pytest.importorskip("fastapi", reason="serving needs it")
import korlm
from korlm.evaluation.token_scores import score_continuous
from korlm.generation.completion import Completer
from korlm.serving.app import GenerateRequest
from korlm.serving.engine import Engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("served")
    prepared = prepare_tiny(folder)
    finish(make_settings(prepared, {"epochs": 2}), prepared, folder / "run")
    with Engine(korlm.load(folder / "run"), torch.device("cpu")) as engine:
        engine.warm_up()
        yield engine


def run_of(engine: Engine):
    return korlm.load(engine._run.folder)


def test_info(engine: Engine) -> None:
    info = engine.info()
    assert info["model"] == "lstm" and info["tokenizer"] == "syllable"
    assert info["description"].startswith(f"run · lstm · syllable · {info['vocab_size']}")


def test_surprisal_is_the_models(engine: Engine) -> None:
    answer = engine.surprisal("나는 잔다.\n\n너는 뷁")
    first, second = answer["lines"]
    assert [line["line"] for line in (first, second)] == [1, 3]
    assert [t["morph"] for t in first["tokens"]] == ["나", "는", "▁", "잔", "다", "."]
    assert [t["eojeol"] for t in first["tokens"]] == [0, 0, 0, 1, 1, 1]
    assert [t["unknown"] for t in second["tokens"]][-1]
    run = run_of(engine)
    with run.reader() as reader:
        ids = reader.read_texts(["나는 잔다.", "", "너는 뷁"]).ids
    windows = score_continuous(run.model, ids, run.start_id)
    nats = np.concatenate([window.nats.numpy() for window in windows])
    bits = [t["surprisal"] for t in first["tokens"]]
    assert bits == pytest.approx((nats[:6] / math.log(2)).tolist(), abs=1e-4)
    total = first["bits"] + second["bits"]  # <eos> included
    assert total == pytest.approx(nats.sum() / math.log(2), abs=1e-3)


def test_no_text_no_lines(engine: Engine) -> None:
    assert engine.surprisal("") == engine.surprisal(" \n") == {"lines": []}


def test_completions_are_the_completers(engine: Engine) -> None:
    answer = engine.complete("나는 자", 3)
    with Completer(run_of(engine)) as completer:
        expected = completer.complete("나는 자", 3)
    assert [c["eojeol"] for c in answer["completions"]] == [e.text for e in expected.eojeols]
    assert all(c["eojeol"].startswith(("자", "잔")) for c in answer["completions"])
    shown = sum(c["probability"] for c in answer["completions"])
    assert shown + answer["rest"] == pytest.approx(1.0)


def test_a_seed_gives_a_text(engine: Engine) -> None:
    wish = GenerateRequest(prompt="나는 ", seed=3)
    text = "".join(engine.write(wish))
    assert text.startswith("나는 ")
    assert text == "".join(engine.write(wish))
    assert (
        len({"".join(engine.write(GenerateRequest(prompt="나는 ", seed=n))) for n in range(8)}) > 1
    )
