"""Methods of trained runs: results of the commands, threads, no unnecessary computation."""

from __future__ import annotations

import json
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from task_cases import TASKS
from tiny_runs import finish, make_settings

import korlm
from korlm.api.runs import LanguageModelRun, TaskRun
from korlm.config import LSTMConfig, SubwordMode, TaggingConfig
from korlm.dataset.prepared import Prepared
from korlm.evaluation.surprisal.score import surprisal_table
from korlm.models.base import LanguageModel
from korlm.modules.subword_embedding import SubwordEmbedding
from korlm.rescoring import LMScorer
from korlm.utils.errors import ConfigError, CorpusError, NbestError

TEXTS = ["나는 집에 간다.", "", "우리는 책을 본다.", "뷁 밥을 먹는다.", "나는 집에 간다."]
LM = LSTMConfig(name="lstm", embedding_dim=8, hidden_dim=8, subword_embedding=SubwordMode.both)


@pytest.fixture(scope="module")
def folders(
    tiny_run: Callable[[str], LanguageModelRun],
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    torch.set_num_threads(1)
    lstm = tmp_path_factory.mktemp("runs") / "lstm"
    finish(make_settings(prepared, model=LM), prepared, lstm)
    others = {name: tiny_run(name).folder for name in ("sentence_lstm", "ngram")}
    return {"lstm": lstm, **others}


@pytest.fixture(params=["lstm", "sentence_lstm", "ngram"])
def run(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Iterator[LanguageModelRun]:
    with open_run(folders[request.param]) as run:
        yield run


@pytest.fixture
def lstm(folders: dict[str, Path]) -> Iterator[LanguageModelRun]:
    with open_run(folders["lstm"]) as run:
        yield run


def open_run(folder: Path) -> LanguageModelRun:
    run = korlm.load(folder)
    assert isinstance(run, LanguageModelRun)
    return run


def test_scores_are_those_of_rescoring_and_surprisals(run: LanguageModelRun) -> None:
    scores = run.score(TEXTS)
    assert scores.shape == (5,) and scores.dtype == np.float64
    with LMScorer([run]) as scorer:
        np.testing.assert_allclose(scores, scorer.score(TEXTS).log_probs[0], atol=1e-4)
    table = run.surprisal(TEXTS, unit="sentence")
    bits = np.array(table.column("open_surprisal"))
    np.testing.assert_allclose(scores[[0, 2, 3, 4]], -bits * math.log(2), atol=1e-4)
    closed = run.score(TEXTS, open_vocabulary=False)
    bits = np.array(table.column("surprisal"))
    np.testing.assert_allclose(closed[[0, 2, 3, 4]], -bits * math.log(2), atol=1e-4)
    assert closed[3] > scores[3]
    for text, score in zip(TEXTS, scores, strict=True):
        assert run.score(text) == pytest.approx([score], abs=1e-4)
    assert run.score([]).shape == (0,)


@pytest.mark.parametrize("unit", ["morph", "eojeol", "sentence"])
@pytest.mark.parametrize("context", ["line", "document", "carried"])
def test_surprisals_do_not_depend_on_the_tokenizer_process(
    lstm: LanguageModelRun, unit: str, context: str
) -> None:
    with open_run(lstm.folder) as other:  # a tokenizer of its own
        expected = surprisal_table(other, TEXTS, unit, context, True)
    assert lstm.surprisal(TEXTS, unit, context).equals(expected)
    assert ("entropy" in expected.column_names) == (unit != "sentence")
    assert "entropy" not in lstm.surprisal(TEXTS, unit, context, entropy=False).column_names
    assert lstm.surprisal([], unit, context).schema == expected.schema


def test_many_texts_are_one_document(
    lstm: LanguageModelRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("korlm.dataset.text_batches.BATCH_CHARS", 40)
    monkeypatch.setattr("korlm.evaluation.surprisal.scorer.WINDOW", 30)
    texts = [text for text in TEXTS if text] * 6
    table = lstm.surprisal(texts, "sentence", context="document")
    assert table.column("line").to_pylist() == list(range(1, 25))
    monkeypatch.undo()
    whole = lstm.surprisal(texts, "sentence", context="document")
    for name in ("surprisal", "open_surprisal"):
        np.testing.assert_allclose(table.column(name), whole.column(name), atol=1e-4)


def test_no_entropy_for_sentences(
    korlm: Command, lstm: LanguageModelRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("an entropy was computed")

    for kind in (LanguageModel, type(lstm.model)):
        monkeypatch.setattr(kind, "token_nll_and_entropy", refuse)
    lstm.score(TEXTS)
    lstm.surprisal(TEXTS, unit="sentence")
    (tmp_path / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    ended = korlm("score", f"run={lstm.folder}", "input=a.txt", "unit=sentence")
    assert ended.code == 0, ended.err


def test_embeddings_are_composed_once(
    lstm: LanguageModelRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    forward = SubwordEmbedding.forward
    monkeypatch.setattr(
        SubwordEmbedding, "forward", lambda *arguments: calls.append(1) or forward(*arguments)
    )
    monkeypatch.setattr(SubwordEmbedding, "for_tokens", None)
    for text in TEXTS:
        lstm.score(text)
        lstm.surprisal(text)
        lstm.complete("나는")
        lstm.rescore({"u": [("나는", -1.0)]})
    assert len(calls) <= 2  # embedding and output layer of the inference copy


def test_texts_are_new_unless_a_seed_is_given(run: LanguageModelRun) -> None:
    assert run.generate("나는 ", seed=3) == run.generate("나는 ", seed=3)
    assert run.generate("나는 ", seed=3).startswith("나는 ")
    assert len({run.generate(max_tokens=30) for _ in range(8)}) > 1
    assert run.generate("나는 ", beams=3) == run.generate("나는 ", beams=3)
    assert len(run.generate("", seed=1, sentences=2, max_tokens=300).splitlines()) == 2


def test_completions(lstm: LanguageModelRun) -> None:
    result = lstm.complete("나는 집", num_completions=3)
    assert result.eojeols and all(eojeol.text.startswith("집") for eojeol in result.eojeols)
    assert lstm.complete("나는 집", 3) == result


def test_rescoring(folders: dict[str, Path], lstm: LanguageModelRun) -> None:
    lists = {"u1": [("간다 집에 나는", -1.0), ("나는 집에 간다.", -1.5)], "u2": [("", 0.0)]}
    result = lstm.rescore(lists, lm_weight=1.0)
    assert list(result) == ["u1", "u2"] and len(result["u2"]) == 1
    best, worst = result["u1"]
    assert best.total > worst.total
    for hyp, score in ((best, best.hypothesis.score), (worst, worst.hypothesis.score)):
        assert hyp.log_prob == pytest.approx(lstm.score(hyp.hypothesis.text)[0], abs=1e-4)
        assert hyp.total == pytest.approx(hyp.log_prob + score)
    with open_run(folders["ngram"]) as ngram:
        mixed = lstm.rescore(lists, mix=[ngram], mixture_weights=[0.5, 0.5])["u1"][0].log_prob
    assert mixed != best.log_prob


def test_names_of_utterances_may_be_numbers(lstm: LanguageModelRun) -> None:
    """The result has the keys that were given, in both contexts."""
    hyps = [("나는 집에 간다.", -1.5), ("집에", -1.0)]
    for context in ("utterance", "recording"):
        result = lstm.rescore({2: hyps, 1: hyps}, context=context, recording_pattern="().*")  # type: ignore[dict-item]
        assert list(result) == [2, 1]
        assert lstm.rescore({}, context=context) == {}


def test_evaluation_equals_the_training(run: LanguageModelRun, folders: dict[str, Path]) -> None:
    stored = json.loads((run.folder / "metrics.json").read_text("utf-8"))
    result = run.evaluate(bootstrap={"samples": 100})
    assert list(result) == ["valid", "test"]
    for split, metrics in result.items():
        for key in ("perplexity", "bits_per_char"):
            # The training cuts the split into columns, which start from the initial state.
            assert metrics[key] == pytest.approx(stored[split][key], rel=0.05)
            low, high = metrics["intervals"][key]
            assert low <= metrics[key] <= high
    modes = run.evaluate(modes=True, adapt=False, test=False)
    assert list(modes) == ["valid"] and set(modes["valid"]) == {"carried", "reset"}


def test_evaluation_on_another_text(lstm: LanguageModelRun, tmp_path: Path) -> None:
    path = tmp_path / "글 하나.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    result = lstm.evaluate(corpus={"name": "text", "files": [path]})
    assert lstm.evaluate(corpus=[path])["text"]["loss"] == result["text"]["loss"]
    bits = -lstm.score([text for text in TEXTS if text]).sum() / math.log(2)
    assert result["text"]["num_tokens"] == sum(len(text) + 1 for text in TEXTS if text)
    assert math.isfinite(bits) and result["text"]["bits_per_char"] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.to("cuda:99"), "device=cuda:99: not available to PyTorch"),
        (lambda run: run.to("cpus"), "device=cpus: not available to PyTorch"),
        (lambda run: korlm.load(3), "run=3: must be a path"),
        (lambda run: run.score(None), "texts is None: give a str, or a list of them"),
        (lambda run: run.score({"a": 1}), "texts is {'a': 1}: give a str, or a list of them"),
        (lambda run: run.score(["a", 5]), "text 2 is 5: give a str"),
        (lambda run: run.surprisal("\ud800"), "text 1 has a lone surrogate"),
        (lambda run: run.surprisal("a", unit="word"), "unit=word: must be one of morph, eojeol"),
        (lambda run: run.surprisal("a", context="x"), "context=x: must be one of line, document"),
        (lambda run: run.generate(5), "text 1 is 5: give a str"),
        (lambda run: run.generate(temperature=-1), "temperature=-1: must be in [0, 1000000.0]"),
        (lambda run: run.generate(top_p=0), "top_p=0: must be in (0, 1]"),
        (lambda run: run.generate(seed="x"), "seed=x: must be an integer or null"),
        (lambda run: run.generate(seed=1.5), "seed=1.5: must be an integer or null"),
        (lambda run: run.generate(beams=True), "beams=True: must be an integer or null"),
        (lambda run: run.generate(length_penalty="x"), "length_penalty=x: must be a number"),
        (lambda run: run.complete("a", 0), "num_completions=0: must be in [1, 1000000]"),
        (lambda run: run.complete("a", 5, None), "max_expansions=None: must be an integer"),
        (lambda run: run.rescore({"u": []}), "u: has no hypothesis"),
        (lambda run: run.rescore({"u": ["a"]}), "u: each hypothesis must be (text, score)"),
        (lambda run: run.rescore({"u": [("a", 10**400)]}), "u: each hypothesis must be"),
        (lambda run: run.rescore({}, mixture_weights=[1, 2]), "mixture_weights=[1, 2]: each must"),
        (lambda run: run.rescore({}, mixture_weights=[0, 1]), "mixture_weights=[0, 1]: must be as"),
        (lambda run: run.rescore({}, mixture_weights=[0.5]), "mixture_weights=[0.5]: must sum"),
        (lambda run: run.rescore({}, mixture_weights=3), "mixture_weights=3: must be a list, each"),
        (lambda run: run.rescore({}, length_bonus="x"), "length_bonus=x: must be a number"),
        (lambda run: run.rescore([("a", 1)]), "nbest: give a dict"),
        (lambda run: run.rescore({}, mix=["x"]), "mix: give a list of runs"),
        (lambda run: run.rescore({}, lm_weight=-1), "lm_weight=-1: must be 0 or more"),
        (lambda run: run.rescore({"u": [(3, 1)]}), "u: text 1 is 3: give a str"),
        (lambda run: run.rescore({"u": [("\ud800", 1)]}), "u: text 1 has a lone surrogate"),
        (lambda run: run.rescore({"u": [("a", math.nan)]}), "u: 'a': the score is not a number"),
        (lambda run: run.evaluate(device="cpu"), "device: does not apply to run.evaluate"),
        (lambda run: run.evaluate(**{"bootstrap.samples": 10**400}), "bootstrap.samples=1000"),
        (lambda run: run.evaluate(**{"cache.sizes": [100]}), "cache.sizes: needs modes=True"),
        (lambda run: run.evaluate(tset=False), "tset: there is no such setting; did you mean test"),
    ],
)
def test_mistakes(
    lstm: LanguageModelRun, call: Callable[[LanguageModelRun], object], message: str
) -> None:
    with pytest.raises((ConfigError, CorpusError, NbestError)) as caught:
        call(lstm)
    assert str(caught.value).startswith(message)


def test_numbers_of_numpy(lstm: LanguageModelRun) -> None:
    few, seed = np.int64(3), np.int64(1)
    assert lstm.generate("나는", seed=seed, max_tokens=few) == lstm.generate(
        "나는", seed=1, max_tokens=3
    )
    assert lstm.complete("나는 ㅈ", few) == lstm.complete("나는 ㅈ", 3)


def test_threads_share_a_run(lstm: LanguageModelRun) -> None:
    calls: list[Callable[[], object]] = [
        lambda: lstm.score(TEXTS).tolist(),
        lambda: lstm.surprisal(TEXTS).to_pylist(),
        lambda: lstm.generate("나는", seed=1),
        lambda: lstm.complete("나는 ㅈ"),
        lambda: lstm.rescore({"u": [("나는", -1.0), ("너는", -2.0)]}),
    ]
    expected = [call() for call in calls]
    lstm.close()
    barrier = threading.Barrier(5)

    def work(number: int) -> object:
        barrier.wait()
        return calls[number % 5]()

    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(work, range(20))) == expected * 4


def test_a_closed_run_starts_again_and_a_forgotten_one_is_closed(folders: dict[str, Path]) -> None:
    run = open_run(folders["lstm"])
    run.warm_up()
    before = run.score(TEXTS)
    run.close()
    assert np.array_equal(run.score(TEXTS), before)
    moved = run.to("cpu")
    assert np.array_equal(moved.score(TEXTS), before)
    for parameter in moved.model.parameters():
        parameter.data.zero_()
    assert np.array_equal(run.score(TEXTS), before)
    text_encoder, model = weakref.ref(run.text_encoder()), weakref.ref(run.model)
    run.complete("가")
    del run  # no cycle of references keeps the model in memory
    assert text_encoder() is None and model() is None


def test_a_task(tiny_task_run: Callable[[str], TaskRun]) -> None:
    name = next(name for name in TASKS if not isinstance(TASKS[name].config, TaggingConfig))
    texts = TASKS[name].texts
    with korlm.load(tiny_task_run(name).folder) as run:
        assert isinstance(run, TaskRun)
        run.warm_up()
        rows = run.predict(texts)
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(run.predict, [texts] * 3)) == [rows] * 3
        stored = json.loads((run.folder / "metrics.json").read_text("utf-8"))["valid"]
        result = run.evaluate(bootstrap={"samples": 100})["valid"]
        for key in result["intervals"]:
            assert result[key] == pytest.approx(stored[key], nan_ok=True)
