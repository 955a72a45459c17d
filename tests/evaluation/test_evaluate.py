"""Metrics of a mode, intervals and tests of several modes, and the text of hyperparameters."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import make_model
from texts import UnigramLM, random_nats, random_text, result_of, toy_run

from korlm.api.evaluation import evaluate_language_models
from korlm.config import (
    BootstrapConfig,
    CacheConfig,
    CorpusConfig,
    DynamicConfig,
    EvaluateSettings,
)
from korlm.dataset.vocab import BOS_ID, UNK_ID
from korlm.evaluation.bootstrap import sign_flip_p
from korlm.evaluation.evaluate import (
    EvaluationInputs,
    TuningData,
    check_same_text,
    compare,
    evaluate,
    evaluate_run,
)
from korlm.evaluation.modes import EvaluationModes
from korlm.evaluation.texts import EvaluationText
from korlm.models.base import LanguageModel
from korlm.utils.errors import CorpusError
from korlm.utils.io.atomic_files import write_json
from korlm.utils.torch_backend import tf32

CONFIG = BootstrapConfig(samples=500)
CACHE, NO_CACHE = CacheConfig(sizes=[5, 20], flatness=[0.0, 0.3]), CacheConfig(sizes=[])
NO_DYNAMIC = DynamicConfig(learning_rates=[])
CPU = torch.device("cpu")


def one_document(text: EvaluationText) -> EvaluationText:
    return dataclasses.replace(text, documents=text.documents * 0, doc_ids=["글.txt"])


def test_metrics_file(tmp_path: Path) -> None:
    text = random_text()
    metrics = result_of(text, np.where(np.arange(len(text.ids)) == 1, 9e9, 1.0)).metrics
    write_json(tmp_path / "metrics.json", {"valid": {"overflow": metrics}})
    stored = json.loads((tmp_path / "metrics.json").read_text("utf-8"))["valid"]["overflow"]
    assert stored["perplexity"] is None
    assert stored["num_tokens"] == len(text.ids)


def test_summary_is_of_the_whole_text() -> None:
    text = random_text()
    nats = random_nats(text)
    metrics = result_of(text, nats).metrics
    assert metrics["loss"] == pytest.approx(nats.mean())
    assert metrics["perplexity_known"] == pytest.approx(np.exp(nats[text.ids != UNK_ID].mean()))
    assert metrics["tokens_per_second"] == len(text.ids) / 2.0
    assert metrics["num_chars"] == text.num_chars.sum()
    bits = (nats.sum() + text.spelling_nats.sum()) / math.log(2) / text.num_chars.sum()
    assert metrics["bits_per_char"] == pytest.approx(bits)
    assert (metrics["model"], metrics["tokenizer"]) == ("lstm", "syllable")
    assert metrics["lines"] == text.status


def test_evaluate_in_the_trained_mode() -> None:
    text = random_text()
    result = evaluate(toy_run(), text)
    assert result.metrics["perplexity"] == pytest.approx(11)  # uniform unigram model
    assert result.as_trained
    assert result.documents.num_tokens.sum() == len(text.ids)


def test_evaluation_forbids_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics on a GPU are those on a CPU, whoever calls the functions."""
    allowed = []

    def token_nll(self: UnigramLM, *args: Any) -> Any:
        allowed.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return LanguageModel.token_nll(self, *args)

    monkeypatch.setattr(UnigramLM, "token_nll", token_nll)
    text = random_text()
    with tf32(True):
        evaluate(toy_run(), text)
        count = len(allowed)
        evaluate_run(toy_run(), EvaluationInputs({"mine": text}), modes(NO_CACHE))
    assert 0 < count < len(allowed)
    assert set(allowed) == {(False, False)}


def test_intervals_contain_the_metrics() -> None:
    text = random_text(2000, 30)
    rows = compare({"a": result_of(text, random_nats(text))}, CONFIG)
    intervals = rows["a"]["intervals"]
    assert list(rows) == ["a"] and "against" not in rows["a"]
    assert (intervals["unit"], intervals["num_units"], intervals["level"]) == ("document", 30, 0.95)
    for key in ("perplexity", "bits_per_char"):
        low, high = intervals[key]
        assert low < rows["a"][key] < high


def test_sentences_of_a_single_document_are_resampled() -> None:
    text = one_document(random_text())
    intervals = compare({"a": result_of(text, random_nats(text))}, CONFIG)["a"]["intervals"]
    assert (intervals["unit"], intervals["num_units"]) == ("sentence", len(text.lengths))


def test_blocks_widen_intervals_of_dependent_units() -> None:
    text = one_document(random_text(6000, 40))
    topics = random_text(6000, 40)
    level = np.random.default_rng(0).normal(4, 1, 40)
    results = {"a": result_of(text, np.repeat(level[topics.documents], topics.lengths))}
    single, blocks = (
        compare(results, BootstrapConfig(samples=500, block=block))["a"]["intervals"]
        for block in (1, 25)
    )
    assert blocks["num_units"] == -(-len(text.lengths) // 25)
    width, block_width = (high - low for low, high in (single["perplexity"], blocks["perplexity"]))
    assert block_width > 2 * width


def test_paired_comparison_on_the_same_tokens() -> None:
    text = random_text(3000, 40)
    nats = random_nats(text)
    better = nats + np.random.default_rng(9).normal(-0.1, 0.1, len(nats))
    results = {"a": result_of(text, nats), "b": result_of(text, better)}
    row = compare(results, CONFIG)["b"]
    test = row["against"]
    assert test["row"] == "a"
    bits = (better - nats).sum() / math.log(2) / text.num_chars.sum()
    assert test["bits_per_char"]["difference"] == pytest.approx(bits)
    assert test["loss"]["difference"] == pytest.approx((better - nats).mean())
    for part in (test["bits_per_char"], test["loss"]):
        low, high = part["interval"]
        assert low < part["difference"] < high < 0
    # The interval of a paired difference is narrower than that of either metric.
    low, high = row["intervals"]["bits_per_char"]
    paired_low, paired_high = test["bits_per_char"]["interval"]
    assert paired_high - paired_low < 0.2 * (high - low)
    differences = results["b"].documents.open_nats - results["a"].documents.open_nats
    assert test["p"] == sign_flip_p(differences, 500, 1) == pytest.approx(1 / 501)


def test_equal_results() -> None:
    text = random_text()
    result = result_of(text, random_nats(text))
    test = compare({"a": result, "b": result}, CONFIG)["b"]["against"]
    assert test["bits_per_char"] == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert test["p"] == 1.0
    assert result.same_loss(result)


def test_losses_of_different_vocabularies_are_not_compared() -> None:
    text = random_text()
    nats = random_nats(text)
    results = {"a": result_of(text, nats), "b": result_of(text, nats, toy_run("나"))}
    test = compare(results, CONFIG)["b"]["against"]
    assert "loss" not in test
    assert test["bits_per_char"]["difference"] == 0


def test_infinite_nats_have_no_interval() -> None:
    text = random_text()
    nats = random_nats(text)
    infinite = np.where(np.arange(len(nats)) == 7, np.inf, nats)
    rows_nats = {"a": infinite, "b": nats, "c": infinite}
    results = {name: result_of(text, row) for name, row in rows_nats.items()}
    rows = compare(results, CONFIG)
    assert rows["a"]["perplexity"] == math.inf
    assert all(map(math.isnan, rows["a"]["intervals"]["perplexity"]))
    assert all(map(math.isfinite, rows["b"]["intervals"]["perplexity"]))
    assert rows["b"]["against"]["bits_per_char"]["difference"] == -math.inf
    assert math.isnan(rows["b"]["against"]["p"])
    assert math.isnan(rows["c"]["against"]["bits_per_char"]["difference"])


def lstm(**changes: Any) -> Any:
    return toy_run(model=make_model("lstm"), **changes)


def modes(cache: CacheConfig = CACHE, dynamic: DynamicConfig = NO_DYNAMIC) -> EvaluationModes:
    return EvaluationModes({"ngram": toy_run()}, cache, dynamic, CPU)


def test_valid_is_tuned_on() -> None:
    valid, test = random_text(200), random_text(200, seed=1)
    inputs = EvaluationInputs({"valid": valid, "test": test}, TuningData(valid, valid.ids))
    results = evaluate_run(lstm(), inputs, modes())
    assert list(results) == ["valid", "test"]
    assert list(results["valid"]) == ["carried", "reset", "cache", "ngram", "mix", "all"]
    trained = [mode for mode, result in results["test"].items() if result.as_trained]
    assert trained == ["carried", "ngram"]
    for mode, result in results["valid"].items():
        assert result.metrics["settings"] == results["test"][mode].metrics["settings"]
    for seed in (1, 2):  # another text does not change what was tuned
        foreign = EvaluationInputs({"mine": random_text(150, seed=seed)}, inputs.tuning)
        by_mode = evaluate_run(lstm(), foreign, modes())["mine"]
        for mode, result in results["valid"].items():
            assert result.metrics["settings"] == by_mode[mode].metrics["settings"]


def test_without_a_tuning_text_mixtures_are_equal() -> None:
    inputs = EvaluationInputs({"mine": random_text(150)})
    results = evaluate_run(lstm(), inputs, modes(dynamic=DynamicConfig()))["mine"]
    assert list(results) == ["carried", "reset", "ngram", "mix"]
    assert results["mix"].metrics["settings"] == {"weights": {"model": 0.5, "ngram": 0.5}}


def test_results_name_their_run_and_its_trained_mode() -> None:
    inputs = EvaluationInputs({"mine": random_text(100)})
    others = EvaluationModes({"ngram": toy_run(folder="runs/other")}, NO_CACHE, NO_DYNAMIC, CPU)
    results = evaluate_run(lstm(start_id=BOS_ID), inputs, others)["mine"]
    assert {mode: (r.metrics["run"], r.as_trained) for mode, r in results.items()} == {
        "carried": ("runs/known", False),
        "reset": ("runs/known", True),
        "ngram": ("runs/other", True),
        "mix": ("runs/known", False),
    }


def test_the_same_text_may_have_other_tokens() -> None:
    text = random_text(200)
    longer = dataclasses.replace(text, ids=np.repeat(text.ids, 2), lengths=text.lengths * 2)
    texts = {"a": text, "b": longer}
    check_same_text({name: EvaluationInputs({"valid": part}) for name, part in texts.items()})


@pytest.mark.parametrize("change", ["chars", "names", "missing"])
def test_another_text_is_refused(change: str) -> None:
    text = random_text(200)
    others = {
        "chars": {"valid": dataclasses.replace(text, num_chars=text.num_chars + 1)},
        "names": {"valid": dataclasses.replace(text, doc_ids=list("abcde"))},
        "missing": {"valid": text, "test": text},
    }
    inputs = {"a": EvaluationInputs({"valid": text}), "b": EvaluationInputs(others[change])}
    with pytest.raises(CorpusError, match="not the same text; give one text for all") as caught:
        check_same_text(inputs)
    split = "test" if change == "missing" else "valid"
    assert str(caught.value).startswith(f"{split} of a (")
    assert "\n" not in str(caught.value)


def test_a_corpus_that_runs_normalize_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    text = random_text(200)
    texts = [text, dataclasses.replace(text, num_chars=text.num_chars + 1)]
    monkeypatch.setattr("korlm.api.evaluation.read_texts", lambda corpus, runs: texts)
    settings = EvaluateSettings(corpus=CorpusConfig(name="text", files=["a.txt"]), adapt=False)
    with pytest.raises(CorpusError, match=r"not the same text; .* corpus\.unicode alone"):
        evaluate_language_models(settings, {"a": lstm(), "b": lstm()}, CPU)


def test_modes_that_need_tuning() -> None:
    neural, ngram = lstm(), toy_run()
    assert not EvaluationModes({}, NO_CACHE, NO_DYNAMIC, CPU).needs_tuning(neural)
    assert modes(NO_CACHE).needs_tuning(neural)
    assert EvaluationModes({}, CACHE, NO_DYNAMIC, CPU).needs_tuning(neural)
    assert EvaluationModes({}, NO_CACHE, DynamicConfig(), CPU).needs_tuning(neural)
    # A model without hidden states and parameters has neither cache nor dynamic evaluation.
    assert not EvaluationModes({}, CACHE, DynamicConfig(), CPU).needs_tuning(ngram)
    assert modes(NO_CACHE).needs_tuning(ngram)


def test_an_ngram_run_alone_is_not_tuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its prepared corpus is not opened: the text to evaluate on is enough."""
    monkeypatch.setattr("korlm.api.evaluation.read_texts", lambda corpus, runs: [random_text(200)])
    settings = EvaluateSettings(corpus=CorpusConfig(name="text", files=["a.txt"]))
    monkeypatch.setattr("korlm.api.evaluation.open_text", None)
    results = evaluate_language_models(settings, {"a": toy_run(prepared=tmp_path)}, CPU)
    assert list(results["text"]) == ["carried", "reset"]


@pytest.mark.parametrize("name", ["ngram", "carried", "own"])
def test_a_mixed_run_whose_name_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    others = {
        "kn5": toy_run(folder=tmp_path / "kn5"),
        name: toy_run(folder=tmp_path / name),
        "mix": toy_run(folder=tmp_path / "mix"),
    }
    monkeypatch.setattr("korlm.api.evaluation.load_mixed_runs", lambda *settings: others)
    monkeypatch.setattr("korlm.api.evaluation.read_texts", lambda corpus, runs: [random_text(200)])
    settings = EvaluateSettings(
        corpus=CorpusConfig(name="text", files=["a.txt"]),
        ngram="kn5",
        mix=[name, "mix"],
        adapt=False,
    )
    results = evaluate_language_models(settings, {"own": toy_run()}, CPU)
    names = ["ngram", str(tmp_path / name), str(tmp_path / "mix")]
    assert list(results["text"]) == ["carried", "reset", *names, "mix"]
    assert results["text"]["ngram"].metrics["run"] == str(tmp_path / "kn5")
    assert results["text"]["carried"].metrics["run"] == "runs/known"
