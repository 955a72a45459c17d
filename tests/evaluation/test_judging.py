"""Figures, intervals and tests of several ways against each other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from texts import costs, judged_of, known_run, sentences_of

from korlm.config import BootstrapConfig
from korlm.evaluation.bootstrap import sign_flip_p
from korlm.evaluation.evaluate import compare, evaluate
from korlm.evaluation.texts import EvaluationText

CONFIG = BootstrapConfig(samples=500)


def one_document(text: EvaluationText) -> EvaluationText:
    return dataclasses.replace(text, documents=text.documents * 0, doc_ids=["글.txt"])


def test_figures_are_of_the_whole_text() -> None:
    text = sentences_of()
    nats = costs(text)
    found = judged_of(text, nats).figures
    assert found["loss"] == pytest.approx(nats.mean())
    assert found["num_chars"] == text.num_chars.sum()
    bits = (nats.sum() + text.spelling_nats.sum()) / math.log(2) / text.num_chars.sum()
    assert found["bits_per_char"] == pytest.approx(bits)
    assert found["model"], found["tokenizer"] == ("lstm", "syllable")
    assert found["lines"] == text.status


def test_intervals_lie_around_the_figures() -> None:
    text = sentences_of(2000, 30)
    rows = compare({"a": judged_of(text, costs(text))}, CONFIG)
    found = rows["a"]["intervals"]
    assert list(rows) == ["a"] and "against" not in rows["a"]
    assert (found["unit"], found["num_units"], found["level"]) == ("document", 30, 0.95)
    for key in ("perplexity", "bits_per_char"):
        low, high = found[key]
        assert low < rows["a"][key] < high


def test_sentences_of_a_single_document_are_drawn() -> None:
    text = one_document(sentences_of())
    found = compare({"a": judged_of(text, costs(text))}, CONFIG)["a"]["intervals"]
    assert (found["unit"], found["num_units"]) == ("sentence", len(text.lengths))


def test_blocks_of_neighbours_that_belong_together_make_wide_intervals() -> None:
    text = one_document(sentences_of(6000, 40))
    topics = sentences_of(6000, 40)
    level = np.random.default_rng(0).normal(4, 1, 40)
    nats = np.repeat(level[topics.documents], topics.lengths)
    judged = {"a": judged_of(text, nats)}
    found = [
        compare(judged, BootstrapConfig(samples=500, block=block))["a"]["intervals"]
        for block in (1, 25)
    ]
    assert found[1]["num_units"] == -(-len(text.lengths) // 25)
    alone, together = (high - low for low, high in (f["perplexity"] for f in found))
    assert together > 2 * alone


def test_a_pair_on_the_same_tokens() -> None:
    text = sentences_of(3000, 40)
    nats = costs(text)
    other = nats + np.random.default_rng(9).normal(-0.1, 0.1, len(nats))
    judged = {"a": judged_of(text, nats), "b": judged_of(text, other)}
    found = compare(judged, CONFIG)["b"]["against"]
    assert found["row"] == "a"
    bits = (other - nats).sum() / math.log(2) / text.num_chars.sum()
    assert found["bits_per_char"]["difference"] == pytest.approx(bits)
    assert found["loss"]["difference"] == pytest.approx((other - nats).mean())
    for part in (found["bits_per_char"], found["loss"]):
        low, high = part["interval"]
        assert low < part["difference"] < high < 0
    # Paired, the difference is far surer than either figure.
    low, high = compare(judged, CONFIG)["b"]["intervals"]["bits_per_char"]
    paired = found["bits_per_char"]["interval"]
    assert paired[1] - paired[0] < 0.2 * (high - low)
    differences = judged["b"].documents.open_nats - judged["a"].documents.open_nats
    assert found["p"] == sign_flip_p(differences, 500, 1) == pytest.approx(1 / 501)


def test_a_row_against_its_like() -> None:
    text = sentences_of()
    judged = judged_of(text, costs(text))
    found = compare({"a": judged, "b": judged}, CONFIG)["b"]["against"]
    assert found["bits_per_char"] == {"difference": 0.0, "interval": [0.0, 0.0]}
    assert found["p"] == 1.0
    assert judged.same_as(judged)


def test_loss_is_not_compared_between_vocabularies() -> None:
    text = sentences_of()
    one, other = judged_of(text, costs(text)), judged_of(text, costs(text), known_run("나"))
    found = compare({"a": one, "b": other}, CONFIG)["b"]["against"]
    assert "loss" not in found
    assert found["bits_per_char"]["difference"] == 0


def test_what_is_impossible_has_no_interval() -> None:
    text = sentences_of()
    nats = costs(text)
    never = np.where(np.arange(len(nats)) == 7, np.inf, nats)
    judged = {"a": judged_of(text, never), "b": judged_of(text, nats), "c": judged_of(text, never)}
    rows = compare(judged, CONFIG)
    assert rows["a"]["perplexity"] == math.inf
    assert all(map(math.isnan, rows["a"]["intervals"]["perplexity"]))
    assert all(map(math.isfinite, rows["b"]["intervals"]["perplexity"]))
    assert rows["b"]["against"]["bits_per_char"]["difference"] == -math.inf
    assert math.isnan(rows["b"]["against"]["p"])
    assert math.isnan(rows["c"]["against"]["bits_per_char"]["difference"])


def test_a_loaded_run_on_a_text() -> None:
    text = sentences_of()
    found = evaluate(known_run(), text)
    assert found.figures["perplexity"] == pytest.approx(11)  # a unigram model of equal chances
    assert found.as_trained
    assert found.documents.num_tokens.sum() == len(text.ids)
