"""Metrics by hand."""

import math
import mmap
from dataclasses import dataclass

import pytest

from korlm.config import metrics as declared
from korlm.config.metrics import (
    LANGUAGE_MODELING,
    Metric,
    check_objective,
    cost,
    metrics_of,
    objective_value,
    register_metrics,
)
from korlm.evaluation.metrics import LossSums, exp, metrics, table
from korlm.utils.errors import ConfigError
from korlm.utils.machine import peak_memory_mb, reset_peak_memory


@dataclass
class Counts:
    """The counts of a split that metrics need."""

    num_eojeol: int
    num_chars: int
    spelling_nats: float


def test_metrics_by_hand() -> None:
    sums = LossSums(nats=12.0, unk_nats=4.0, num_tokens=8, num_unk=2, seconds=0.5)
    values = metrics(sums, Counts(num_eojeol=5, num_chars=16, spelling_nats=20.0), 123.0)
    assert values == {
        "num_tokens": 8,
        "num_unk": 2,
        "num_eojeol": 5,
        "num_chars": 16,
        "loss": 1.5,
        "perplexity": pytest.approx(4.481689070338065),  # e ** 1.5
        "perplexity_known": pytest.approx(3.793667894683494),  # e ** (8 / 6)
        "oov_rate": 0.25,
        "eojeol_perplexity": pytest.approx(601.8450378720822),  # e ** (32 / 5)
        "bits_per_char": pytest.approx(2.8853900817779268),  # 32 / ln 2 / 16
        "tokens_per_second": 16.0,
        "seconds": 0.5,
        "peak_memory_mb": 123.0,
    }
    assert all(isinstance(values[key], int) for key in values if key.startswith("num_"))


def test_mapping_words_to_unk_does_not_improve_open_metrics() -> None:
    counts = Counts(num_eojeol=10, num_chars=40, spelling_nats=0.0)
    honest = metrics(LossSums(nats=50.0, num_tokens=10), counts, 0.0)
    counts.spelling_nats = 60.0
    hiding = metrics(LossSums(nats=5.0, unk_nats=5.0, num_tokens=10, num_unk=10), counts, 0.0)
    assert hiding["perplexity"] < honest["perplexity"]
    assert hiding["bits_per_char"] > honest["bits_per_char"]
    assert hiding["eojeol_perplexity"] > honest["eojeol_perplexity"]


def test_the_loss_of_no_tokens() -> None:
    assert math.isnan(LossSums().loss) and math.isnan(LossSums().perplexity)


def test_exp_overflows_to_infinity() -> None:
    assert exp(0.0) == 1.0
    assert exp(700.0) == pytest.approx(math.exp(700))
    assert exp(1e6) == math.inf
    assert exp(math.inf) == math.inf
    assert exp(-1e6) == 0.0
    assert math.isnan(exp(math.nan))
    diverged = LossSums(nats=1e9, num_tokens=10)
    assert diverged.loss == 1e8 and diverged.perplexity == math.inf
    values = metrics(diverged, Counts(1, 10, 0.0), 0.0)
    assert values["eojeol_perplexity"] == math.inf and math.isfinite(values["bits_per_char"])


def test_undefined_metrics() -> None:
    unknown = LossSums(nats=3.0, unk_nats=3.0, num_tokens=3, num_unk=3)
    values = metrics(unknown, Counts(num_eojeol=0, num_chars=3, spelling_nats=1.0), 0.0)
    assert math.isnan(values["perplexity_known"]) and math.isnan(values["eojeol_perplexity"])
    assert values["oov_rate"] == 1.0
    assert values["bits_per_char"] == pytest.approx(4 / math.log(2) / 3)


def test_table() -> None:
    sums = LossSums(nats=12.0, num_tokens=8, seconds=0.5)
    values = metrics(sums, Counts(5, 16, 20.0), 123.4)
    text = table({"valid": values, "test": values | {"num_tokens": 1_234_567}})
    rows = {line.split()[0]: line.split()[1:] for line in text.split("\n")[1:]}
    assert text.split("\n")[0].split() == ["valid", "test"]
    assert list(rows) == list(values)
    assert rows["num_tokens"] == ["8", "1,234,567"]
    assert rows["loss"] == ["1.5000", "1.5000"]
    assert len({len(line) for line in text.split("\n")}) == 1
    assert table({}).strip() == ""


def test_peak_memory() -> None:
    reset_peak_memory()
    before = peak_memory_mb()
    if before == 0:
        pytest.skip("this system does not report peak memory")
    # A mapping of its own: malloc may reuse freed memory that the process still holds.
    with mmap.mmap(-1, 100 << 20) as pages:
        for begin in range(0, len(pages), mmap.PAGESIZE):
            pages[begin] = 1
        assert peak_memory_mb() >= before + 90
    assert peak_memory_mb() >= before + 90  # the peak stays


def test_objectives_are_the_metrics() -> None:
    values = metrics(LossSums(nats=1.0, num_tokens=1), Counts(1, 1, 0.0), 0.0)
    assert set(values) == {metric.key for metric in metrics_of(LANGUAGE_MODELING)}
    for key in values:
        check_objective(f"test.{key}")
    for wrong in ("perplexity", "valid.", "valid.perplexities", "dev.loss", "", "valid.loss.x"):
        with pytest.raises(ConfigError, match="objective="):
            check_objective(wrong)


def test_objectives_of_other_tasks() -> None:
    check_objective("valid.f1_PS", "tagging")
    with pytest.raises(ConfigError, match=r"did you mean test\.accuracy"):
        check_objective("test.acuracy", "classification")
    # The direction of other metrics of another package's task is not known.
    check_objective("valid.accuracy", "other")
    for task, wrong in (("other", "valid.auc"), ("classification", "valid.f1_PS")):
        with pytest.raises(ConfigError, match=f"objective={wrong}"):
            check_objective(wrong, task)


def test_the_value_of_an_objective() -> None:
    splits = {"valid": {"loss": 2.0}}
    assert objective_value("valid.loss", splits) == 2.0
    assert objective_value("test.loss", splits) is objective_value("valid.f1", splits) is None


def test_the_minimized_value() -> None:
    assert cost("valid.loss", 2.0) == 2.0
    assert cost("train.tokens_per_second", 2.0) == -2.0
    for undefined in (None, math.nan, math.inf):
        assert (
            cost("valid.perplexity", undefined)
            == cost("valid.tokens_per_second", undefined)
            == math.inf
        )


def test_metrics_of_a_task_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "_registered", dict(declared._registered))
    register_metrics("other", Metric("auc", larger_is_better=True), Metric("loss"))
    assert declared.default_objective("other") == "valid.auc" and cost("valid.auc", 0.5) == -0.5
    check_objective("test.auc", "other")
    with pytest.raises(ConfigError, match=r"objective=valid\.accuracy"):
        check_objective("valid.accuracy", "other")
    with pytest.raises(ConfigError, match="metric auc of task=third: another task has registered"):
        register_metrics("third", Metric("auc"))
