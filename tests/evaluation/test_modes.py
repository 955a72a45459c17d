"""Which rows a model gets, and that only the first split decides."""

from __future__ import annotations

import numpy as np
import pytest
from model_cases import make_model
from texts import VOCAB_SIZE, UnigramLM, random_text

from korlm.config import CacheConfig, DynamicConfig
from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.evaluation.modes import Comparison, EvaluatedModel
from korlm.evaluation.token_scores import score, score_continuous, score_sentences
from korlm.models.base import LanguageModel

CACHE = CacheConfig(sizes=[5, 20], flatness=[0.0, 0.3])
DYNAMIC = DynamicConfig(
    segment=5, learning_rates=[1e-3, 1e-2], tune_tokens=30, statistics_tokens=30
)


def reader(name: str, model: LanguageModel, start_id: int = EOS_ID) -> EvaluatedModel:
    splits = ("train", "valid", "test")
    return EvaluatedModel(
        name, model, {s: random_text(60, start_id, i) for i, s in enumerate(splits)}
    )


def unigrams() -> LanguageModel:
    return UnigramLM([0.0, 0.01, 0.01, 0.18] + [0.8 / (VOCAB_SIZE - 4)] * (VOCAB_SIZE - 4))


def test_a_model_without_parameters_and_vectors_has_few_rows() -> None:
    rows = Comparison(reader("model", unigrams()), [], CACHE, DYNAMIC).rows("valid")
    assert list(rows) == ["carried", "reset"]


def test_a_model_without_vectors_can_learn() -> None:
    rows = Comparison(reader("model", make_model("pairs")), [], CACHE, DYNAMIC).rows("valid")
    assert list(rows) == ["carried", "reset", "dynamic", "all"]
    assert "cache" not in rows["all"].settings["weights"]


def test_what_is_chosen_stays() -> None:
    others = [reader("uni", unigrams()), reader("gru", make_model("gru"))]
    comparison = Comparison(reader("model", make_model("lstm")), others, CACHE, DYNAMIC)
    valid, test = comparison.rows("valid"), comparison.rows("test")
    assert list(valid) == ["carried", "reset", "cache", "dynamic", "uni", "gru", "mix", "all"]
    for name in valid:
        assert valid[name].settings == test[name].settings
        assert len(valid[name].nats) == len(test[name].nats) == 60
        assert valid[name].seconds > 0
        assert not np.array_equal(valid[name].nats, test[name].nats)
    assert valid["mix"].settings["weights"]["uni"] > 0.5  # random networks know nothing
    again = Comparison(reader("model", make_model("lstm")), others, CACHE, DYNAMIC).rows("test")
    assert again["all"].settings != test["all"].settings  # it matters where one tunes


@pytest.mark.parametrize("start_id", [EOS_ID, BOS_ID])
def test_others_are_read_as_they_were_trained(start_id: int) -> None:
    other = reader("gru", make_model("gru"), start_id)
    text = other.texts["valid"]
    found = Comparison(reader("model", make_model("lstm")), [other], CACHE, DYNAMIC).rows("valid")
    carried = score(score_continuous(other.model, text), len(text), "carried").nats
    expected = score_sentences(other.model, text).nats if start_id == BOS_ID else carried
    np.testing.assert_array_equal(found["gru"].nats, expected)


def test_a_rate_that_blows_the_model_up_is_not_taken() -> None:
    wild = DynamicConfig(
        segment=5, learning_rates=[1e-3, 1e30], tune_tokens=30, statistics_tokens=30
    )
    rows = Comparison(reader("model", make_model("lstm")), [], CACHE, wild).rows("valid")
    assert rows["dynamic"].settings["rate"] == 1e-3
    assert np.isfinite(rows["all"].nats).all()
    wild = DynamicConfig(segment=5, learning_rates=[1e30], tune_tokens=30, statistics_tokens=30)
    rows = Comparison(reader("model", make_model("lstm")), [], CACHE, wild).rows("valid")
    assert np.isfinite(rows["all"].nats).all()
