"""Evaluation of task runs: intervals, paired tests, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from task_cases import TASKS, settings_of
from tiny_runs import finish

from korlm.config import BootstrapConfig
from korlm.dataset.prepared import Prepared
from korlm.prediction.evaluation import build_task, count_examples, evaluate_task_runs, paired_test
from korlm.prediction.task_run import TaskRun, load_task_run

BOOTSTRAP = BootstrapConfig(samples=200)


@pytest.fixture(params=TASKS, scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Prepared, dict[str, TaskRun]]:
    """A run of one epoch, and one that has learned the examples."""
    case, folder = TASKS[request.param], tmp_path_factory.mktemp(request.param)
    prepared = case.prepare(folder / "data")
    for name, epochs in (("short", 1), ("long", 60)):
        finish(settings_of(case, prepared, epochs), prepared, folder / name)
    return prepared, {name: load_task_run(folder / name) for name in ("short", "long")}


def test_metrics_equal_those_of_the_training(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    prepared, by_name = runs
    for run in by_name.values():
        task = build_task(run, prepared)
        counts = count_examples(task, run, "valid")
        assert counts.shape == (10, task.num_counts)
        expected = task.evaluate(run.model, "valid")
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


def test_equal_runs_do_not_differ(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    prepared, by_name = runs
    task = build_task(by_name["long"], prepared)
    counts = count_examples(task, by_name["long"], "valid")
    for entry in paired_test(task, (counts, counts), "valid", BOOTSTRAP).values():
        assert entry == {"difference": 0, "p": 1}


def test_only_valid(runs: tuple[Prepared, dict[str, TaskRun]]) -> None:
    prepared, by_name = runs
    by_fingerprint = {prepared.fingerprint: prepared}
    one = {"long": by_name["long"]}
    assert list(evaluate_task_runs(one, by_fingerprint, BOOTSTRAP, use_test=False)) == ["valid"]
