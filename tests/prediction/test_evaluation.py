"""Evaluation of task runs: intervals, paired tests, and errors."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_cases import TASKS, settings_of
from tiny_runs import finish

from korlm.api.runs import TaskRun
from korlm.config import BootstrapConfig, CorpusConfig
from korlm.config.metrics import metrics_of
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.prediction.evaluation import (
    build_task,
    count_examples,
    evaluate_task_runs,
    paired_test,
    prepare_text,
)
from korlm.utils.errors import CorpusError

BOOTSTRAP = BootstrapConfig(samples=200)


@pytest.fixture(params=TASKS, scope="module")
def runs(
    request: pytest.FixtureRequest,
    tiny_task_run: Callable[[str], TaskRun],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Prepared, dict[str, TaskRun]]:
    """Return a run of one epoch, and one that has learned the examples."""
    case, short = TASKS[request.param], tmp_path_factory.mktemp(request.param)
    long = tiny_task_run(request.param)
    prepared = open_prepared(long.prepared)
    finish(settings_of(case, prepared, 1), prepared, short)
    return prepared, {"short": TaskRun.load(short), "long": TaskRun.load(long.folder)}


def test_metrics_equal_those_of_the_training(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    prepared, by_name = runs
    for run in by_name.values():
        task = build_task(run, prepared)
        counts = count_examples(task, run, "valid")
        assert counts.shape == (10, task.num_counts)
        expected = task.evaluate(run.model, "valid")
        declared = metrics_of(task.name)
        assert all(any(metric.has_key(key) for metric in declared) for key in expected)
        for key, value in task.metrics_of(counts.sum(0), "valid").items():
            assert value == pytest.approx(expected[key], rel=1e-6, nan_ok=True), key


def test_intervals_contain_the_metric(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    prepared, by_name = runs
    results = evaluate_task_runs(by_name, {prepared.fingerprint: prepared}, BOOTSTRAP)
    assert list(results) == ["valid", "test"]
    for rows in results.values():
        assert list(rows) == ["short", "long"]
        for result in rows.values():
            for metric, (low, high) in result["intervals"].items():
                assert low - 1e-9 <= result[metric] <= high + 1e-9 or np.isnan(low)
        test = rows["long"]["paired_test"]
        for metric, entry in test.items():
            expected = rows["long"][metric] - rows["short"][metric]
            assert entry["difference"] == pytest.approx(expected)
            assert 0 < entry["p"] <= 1


def test_blocks_of_examples(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    """The 10 examples of valid are one block: no interval, and two equally likely permutations."""
    prepared, by_name = runs
    by_fingerprint = {prepared.fingerprint: prepared}
    config = BootstrapConfig(samples=200, block=10)
    blocks = evaluate_task_runs(by_name, by_fingerprint, config, ["valid"])["valid"]
    single = evaluate_task_runs(by_name, by_fingerprint, BOOTSTRAP, ["valid"])["valid"]
    for name, result in blocks.items():
        assert np.isnan([*result["intervals"].values()]).all()
        assert all(result[key] == pytest.approx(single[name][key]) for key in result["intervals"])
    assert {entry["p"] for entry in blocks["long"]["paired_test"].values()} == {1}


def test_other_labels_have_no_paired_test(
    runs: tuple[Prepared, dict[str, TaskRun]], caplog: pytest.LogCaptureFixture
) -> None:
    """Counts of each class cannot be exchanged between runs with another order of labels."""
    prepared, by_name = runs
    long = by_name["long"]
    other = dataclasses.replace(long, labels=tuple(reversed(long.labels)))
    by_fingerprint = {prepared.fingerprint: prepared}
    rows = evaluate_task_runs({"a": long, "b": other}, by_fingerprint, BOOTSTRAP, ["valid"])
    has_labels = len(long.labels) > 1
    assert ("paired_test" in rows["valid"]["b"]) == (not has_labels)
    assert caplog.text.count("valid: b has other examples or labels") == has_labels


def test_equal_runs_do_not_differ(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    prepared, by_name = runs
    task = build_task(by_name["long"], prepared)
    counts = count_examples(task, by_name["long"], "valid")
    for entry in paired_test(task, (counts, counts), "valid", BOOTSTRAP).values():
        assert entry == {"difference": 0, "p": 1}


def test_an_infinite_metric_has_no_p() -> None:
    class Inverse:
        compared = ("inverse",)

        def metrics_of(self, counts: Any, split: str) -> dict[str, float]:
            return {"inverse": 1 / counts[0] if counts[0] else math.inf}

    task: Any = Inverse()
    pair = np.array([[1.0], [2.0]]), np.array([[0.0], [0.0]])
    (entry,) = paired_test(task, pair, "valid", BOOTSTRAP).values()
    assert entry["difference"] == math.inf and math.isnan(entry["p"])


def test_only_valid(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    prepared, by_name = runs
    by_fingerprint = {prepared.fingerprint: prepared}
    assert list(
        evaluate_task_runs({"long": by_name["long"]}, by_fingerprint, BOOTSTRAP, ["valid"])
    ) == ["valid"]


def test_any_text_of_the_same_format(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    """A file is read with the columns, the vocabulary and the labels of the run."""
    prepared, by_name = runs
    trained = prepared.manifest["settings"]["corpus"]
    run = by_name["long"]
    columns = {key: trained[key] for key in ("label_column", "target_column")}
    own = CorpusConfig(name="tiny", train=trained["train"], **columns)
    settings = dataclasses.replace(run.settings, corpus=own)
    run = dataclasses.replace(run, settings=settings)
    path = Path(trained["test"][0])
    fewer = path.with_name("mine.tsv")
    fewer.write_text("\n".join(path.read_text("utf-8").split("\n")[:6]), encoding="utf-8")
    results = {}
    for file in (path, fewer):
        corpus = CorpusConfig(name="mine", files=[str(file)])
        text = prepare_text(run, corpus, prepared.folder.parent)
        assert list(text.stats) == ["test"]
        by_fingerprint = {prepared.fingerprint: text}
        results[file] = evaluate_task_runs({"long": run}, by_fingerprint, BOOTSTRAP, ["test"])
    by_fingerprint = {prepared.fingerprint: prepared}
    splits = evaluate_task_runs({"long": run}, by_fingerprint, BOOTSTRAP, ["test"])
    expected = splits["test"]["long"]
    actual = results[path]["test"]["long"]
    for metric in expected["intervals"]:
        assert actual[metric] == pytest.approx(expected[metric], rel=1e-6), metric
    assert results[fewer]["test"]["long"] != actual


def test_a_given_setting_of_the_format_is_not_that_of_the_run(
    tiny_task_run: Callable[[str], TaskRun], tmp_path: Path
) -> None:
    """It may be the default."""
    run = tiny_task_run("classification")
    settings = copy.deepcopy(run.settings)
    settings.corpus.encoding = "cp949"
    run = dataclasses.replace(run, settings=settings)
    (tmp_path / "a.tsv").write_text("text\tannotation\n좋다\t긍정\n", encoding="utf-8")
    corpus = {"name": "tsv", "files": [str(tmp_path / "a.tsv")]}
    outputs = str(tmp_path / "outputs")
    with pytest.raises(CorpusError, match="which does not occur in train"):
        run.evaluate(corpus=corpus, outputs=outputs)  # type: ignore[attr-defined]
    results = run.evaluate(corpus=corpus | {"encoding": "utf8"}, outputs=outputs)  # type: ignore[attr-defined]
    assert "accuracy" in results["tsv"]


def test_a_text_with_an_unknown_label(
    tiny_task_run: Callable[[str], TaskRun], tmp_path: Path
) -> None:
    run = tiny_task_run("classification")
    path = tmp_path / "mine.tsv"
    path.write_text("text\tannotation\n좋다\t최고\n", encoding="utf-8")
    corpus = CorpusConfig(name="mine", files=[str(path)], label_column="annotation")
    text = prepare_text(run, corpus, tmp_path)
    with pytest.raises(CorpusError, match="'최고', which does not occur in train"):
        evaluate_task_runs({"run": run}, {run.fingerprint: text}, BOOTSTRAP, ["test"])
