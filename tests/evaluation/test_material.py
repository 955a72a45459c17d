"""Which text a run reads, what is chosen on which, and that runs read the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_cases import make_model
from texts import KnownRun, known_run, sentences_of

from korlm.config import CacheConfig, DynamicConfig
from korlm.dataset.vocab import BOS_ID, Vocab
from korlm.evaluation.evaluate import (
    EvaluationInputs,
    EvaluationModes,
    Tuning,
    check_same_text,
    evaluate_run,
)
from korlm.utils.errors import CorpusError

CACHE = CacheConfig(sizes=[5, 20], flatness=[0.0, 0.3])
NOTHING = CacheConfig(sizes=[]), DynamicConfig(learning_rates=[])
CPU = torch.device("cpu")


def lstm() -> KnownRun:
    return dataclasses.replace(known_run(), model=make_model("lstm"))


def test_a_text_of_ones_own_is_tuned_on() -> None:
    valid, test = sentences_of(200), sentences_of(200, seed=1)
    material = EvaluationInputs({"valid": valid, "test": test}, Tuning(valid, valid.ids))
    ways = EvaluationModes({"ngram": known_run()}, CACHE, DynamicConfig(learning_rates=[]), CPU)
    found = evaluate_run(lstm(), material, ways)
    assert list(found) == ["valid", "test"]
    assert list(found["valid"]) == ["carried", "reset", "cache", "ngram", "mix", "all"]
    assert [way for way, judged in found["test"].items() if judged.as_trained] == [
        "carried",
        "ngram",
    ]
    for way in found["valid"]:
        assert found["valid"][way].figures["settings"] == found["test"][way].figures["settings"]


def test_a_foreign_text_decides_nothing() -> None:
    valid = sentences_of(200)
    ways = EvaluationModes({"ngram": known_run()}, CACHE, DynamicConfig(learning_rates=[]), CPU)
    own = evaluate_run(lstm(), EvaluationInputs({"valid": valid}, Tuning(valid, valid.ids)), ways)[
        "valid"
    ]
    for seed in (1, 2):
        foreign = EvaluationInputs({"mine": sentences_of(150, seed=seed)}, Tuning(valid, valid.ids))
        found = evaluate_run(lstm(), foreign, ways)
        assert list(found) == ["mine"]
        for way in own:
            assert found["mine"][way].figures["settings"] == own[way].figures["settings"]


def test_without_a_text_to_tune_on_models_mix_in_equal_shares() -> None:
    ways = EvaluationModes({"ngram": known_run()}, CACHE, DynamicConfig(), CPU)
    found = evaluate_run(lstm(), EvaluationInputs({"mine": sentences_of(150)}), ways)["mine"]
    assert list(found) == ["carried", "reset", "ngram", "mix"]
    assert found["mix"].figures["settings"] == {"weights": {"model": 0.5, "ngram": 0.5}}


def test_a_run_of_sentences_was_trained_to_be_reset() -> None:
    run = dataclasses.replace(lstm(), start_id=BOS_ID)
    found = evaluate_run(
        run, EvaluationInputs({"mine": sentences_of(100)}), EvaluationModes({}, *NOTHING, CPU)
    )["mine"]
    assert [judged.as_trained for judged in found.values()] == [False, True]
    assert list(found) == ["carried", "reset"]


def test_figures_name_the_run_that_they_are_of() -> None:
    other = dataclasses.replace(known_run(), folder="runs/other")
    found = evaluate_run(
        lstm(),
        EvaluationInputs({"mine": sentences_of(100)}),
        EvaluationModes({"ngram": other}, *NOTHING, CPU),
    )["mine"]
    assert {way: judged.figures["run"] for way, judged in found.items()} == {
        "carried": "runs/known",
        "reset": "runs/known",
        "ngram": "runs/other",
        "mix": "runs/known",
    }


def test_the_same_text_may_have_other_tokens() -> None:
    text = sentences_of(200)
    longer = dataclasses.replace(text, ids=np.repeat(text.ids, 2), lengths=text.lengths * 2)
    check_same_text(
        {"a": EvaluationInputs({"valid": text}), "b": EvaluationInputs({"valid": longer})}
    )


@pytest.mark.parametrize("change", ["chars", "names", "none"])
def test_another_text_is_refused(change: str) -> None:
    text = sentences_of(200)
    others = {
        "chars": {"valid": dataclasses.replace(text, num_chars=text.num_chars + 1)},
        "names": {"valid": dataclasses.replace(text, doc_ids=list("abcde"))},
        "none": {"valid": text, "test": text},
    }
    with pytest.raises(CorpusError, match="not the same text; give one that all") as caught:
        check_same_text(
            {"a": EvaluationInputs({"valid": text}), "b": EvaluationInputs(others[change])}
        )
    split = "test" if change == "none" else "valid"
    assert str(caught.value).startswith(f"{split} of a (")
    assert "\n" not in str(caught.value)


def test_ways_without_numbers() -> None:
    assert not EvaluationModes({}, *NOTHING, CPU).needs_tuning
    assert EvaluationModes({"ngram": known_run()}, *NOTHING, CPU).needs_tuning
    assert isinstance(known_run().vocab, Vocab)
