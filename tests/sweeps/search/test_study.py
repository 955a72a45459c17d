"""A search that is interrupted at any point continues like an uninterrupted one."""

from __future__ import annotations

import logging
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from searches import SPACE, BreakError, figure, search, space_of

from korlm.config import Sampler, SearchConfig
from korlm.config.metrics import cost
from korlm.sweeps.search.database import STUDY, storage_of
from korlm.sweeps.search.study import distribution, open_search, sampler_of
from korlm.utils.errors import ConfigError, OutputError, Pruned, SearchError, TrainingError

N = 6  # more than the random startup trials


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    trials = search(tmp_path_factory.mktemp("undisturbed"), n_trials=N)
    return [trial.user_attrs["overrides"] for trial in trials]


def states(folder: Path) -> list[str]:
    with storage_of(folder) as storage:
        study = optuna.load_study(study_name=STUDY, storage=storage)
        return [trial.state.name for trial in study.get_trials()]


def test_equal_seeds_give_equal_proposals(tmp_path: Path, undisturbed: list[list[str]]) -> None:
    again = search(tmp_path / "a", n_trials=N)
    assert [trial.user_attrs["overrides"] for trial in again] == undisturbed
    other = search(tmp_path / "b", n_trials=N, seed=2)
    assert not {tuple(t.user_attrs["overrides"]) for t in other} & set(map(tuple, undisturbed))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_proposals_lie_in_the_space(tmp_path: Path, sampler: str) -> None:
    for trial in search(tmp_path, n_trials=N, sampler=Sampler(sampler)):
        assert 0.001 <= trial.params["lr"] <= 1
        assert trial.params["dim"] in ("10", "20")
        assert trial.params["layers"] in (1, 2, 3)


def test_the_sampler_learns(tmp_path: Path) -> None:
    def distance(overrides: list[str]) -> float:
        return abs(math.log10(float(overrides[0].removeprefix("lr="))) + 1)

    trials = search(tmp_path, distance, space_of(SPACE[0]), n_trials=16, startup_trials=6)
    values = [trial.value for trial in trials if trial.value is not None]
    assert statistics.median(values[-8:]) < 0.7 * statistics.median(values[:6])


@pytest.mark.parametrize("broken_at", [0, 1, 4, N - 1])
def test_interrupted_and_resumed(
    tmp_path: Path, undisturbed: list[list[str]], broken_at: int
) -> None:
    """The trials are the same as without interruption, and none is still running."""
    calls: list[list[str]] = []

    def run(overrides: list[str]) -> float:
        calls.append(overrides)
        if len(calls) == broken_at + 1:
            raise BreakError
        return figure(overrides)

    with pytest.raises(BreakError):
        search(tmp_path, run, n_trials=N)
    assert states(tmp_path) == ["COMPLETE"] * broken_at + ["WAITING"]
    trials = search(tmp_path, run, n_trials=N)
    assert [trial.user_attrs["overrides"] for trial in trials] == undisturbed
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len(calls) == N + 1 and calls[broken_at] == calls[broken_at + 1]
    assert len(search(tmp_path, run, n_trials=N)) == N == len(calls) - 1
    assert len(search(tmp_path, run, n_trials=N + 2)) == N + 2


def test_killed(tmp_path: Path, undisturbed: list[list[str]]) -> None:
    """After kill -9, the trial is still marked as running, and the lock has no owner."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom searches import figure, search\ncount = 0\n"
        "def run(overrides):\n"
        "    global count\n"
        "    count += 1\n"
        "    return figure(overrides) if count < 4 else os.kill(os.getpid(), 9)\n"
        f"search(Path(sys.argv[1]), run, n_trials={N}, n_jobs=2)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.returncode == -9
    assert states(tmp_path) == ["COMPLETE"] * 3 + ["RUNNING"]
    trials = search(tmp_path, n_trials=N)
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    first = [trial.user_attrs["overrides"] for trial in trials][:3]
    assert first == undisturbed[:3], "those that are drawn at random"
    assert len({tuple(trial.user_attrs["overrides"]) for trial in trials}) == len(trials) == N


def test_killed_while_proposing(tmp_path: Path, undisturbed: list[list[str]]) -> None:
    with storage_of(tmp_path) as storage:
        study = optuna.create_study(study_name=STUDY, storage=storage)
        storage.create_new_trial(study._study_id)  # without any parameter
    assert states(tmp_path) == ["RUNNING"]
    trials = search(tmp_path, n_trials=N)
    assert [trial.user_attrs["overrides"] for trial in trials] == undisturbed


def test_one_process_at_a_time(tmp_path: Path) -> None:
    def run(overrides: list[str]) -> float:
        with pytest.raises(OutputError, match="another process runs this search; wait"):
            search(tmp_path)
        return figure(overrides)

    assert len(search(tmp_path, run, n_trials=1)) == 1


@pytest.mark.parametrize(
    ("overrides", "objective", "message"),
    [
        (["lr=0.1", *SPACE[1:]], "valid.perplexity", "with lr=tag.log, interval.*not with lr=0.1:"),
        (SPACE, "test.loss", "with objective=valid.perplexity, not with objective=test.loss:"),
        ([*SPACE, "seed=2"], "valid.perplexity", "with no setting of seed, not with seed=2:"),
    ],
)
def test_two_searches_are_not_mixed(
    tmp_path: Path, overrides: list[str], objective: str, message: str
) -> None:
    search(tmp_path, n_trials=2)
    with pytest.raises(ConfigError, match=message):
        search(tmp_path, space=space_of(*overrides), objective=objective)
    assert len(search(tmp_path, n_trials=3)) == 3


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_the_same_settings_are_run_once(tmp_path: Path, n_jobs: int) -> None:
    calls: list[list[str]] = []

    def run(overrides: list[str]) -> float:
        calls.append(overrides)
        return float(overrides[0] == "a=2")

    trials = search(tmp_path, run, space_of("a=choice(1, 2)"), n_trials=9, n_jobs=n_jobs)
    assert len(trials) == 9
    assert sorted(calls) == [["a=1"], ["a=2"]]
    assert {(trial.params["a"], trial.value) for trial in trials} == {("1", 0.0), ("2", 1.0)}


def test_the_same_failure_is_not_run_twice(tmp_path: Path) -> None:
    calls: list[list[str]] = []

    def run(overrides: list[str]) -> float | Exception:
        calls.append(overrides)
        return TrainingError("the loss is not finite") if overrides == ["a=2"] else 1.0

    trials = search(tmp_path, run, space_of("a=choice(1, 2)"), n_trials=6)
    assert len(calls) == 2
    of_two = [trial for trial in trials if trial.params["a"] == "2"]
    assert {trial.state for trial in of_two} == {TrialState.PRUNED}
    assert {trial.user_attrs["reason"] for trial in of_two} == {"the loss is not finite"}


def test_failures_do_not_end_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failures = [ValueError("ours"), TrainingError("not finite"), Pruned("pruned at step 3")]
    results = iter([math.inf, *failures, 2.0, 1.0, 3.0])
    with caplog.at_level(logging.INFO):
        trials = search(tmp_path, lambda _: next(results), n_trials=7)
    expected = "COMPLETE FAIL PRUNED PRUNED COMPLETE COMPLETE COMPLETE"
    assert [trial.state.name for trial in trials] == expected.split()
    lines = [record.getMessage().partition(";")[0] for record in caplog.records]
    assert lines == [
        "trial 0 (1 of 7): valid.perplexity infinite",
        "trial 1 (2 of 7): ValueError: ours",
        "trial 2 (3 of 7): not finite",
        "trial 3 (4 of 7): pruned at step 3",
        "trial 4 (5 of 7): valid.perplexity 2.0000 (best: 2.0000, trial 4)",
        "trial 5 (6 of 7): valid.perplexity 1.0000 (best: 1.0000, trial 5)",
        "trial 6 (7 of 7): valid.perplexity 3.0000 (best: 1.0000, trial 5)",
    ]


@pytest.mark.parametrize(
    ("objective", "value", "text"),
    [
        ("valid.tokens_per_second", 1234.5, "1,234.5000"),
        ("valid.accuracy", 0.0, "0.0000"),
        ("valid.accuracy", -0.25, "-0.2500"),
        ("valid.perplexity", 3.5, "3.5000"),
        ("valid.loss", -1.5, "-1.5000"),
    ],
)
def test_objectives_are_logged_with_their_own_sign(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, objective: str, value: float, text: str
) -> None:
    """Metrics of which larger values are better are minimized as their negatives."""
    with caplog.at_level(logging.INFO):
        search(tmp_path, lambda _: cost(objective, value), n_trials=1, objective=objective)
    assert f"{objective} {text} (best: {text}, trial 0)" in caplog.text


def test_a_running_trial_has_no_reason(tmp_path: Path) -> None:
    config = SearchConfig(n_trials=2)
    with open_search(tmp_path, space_of(), config, "valid.perplexity") as opened:
        first, _ = opened.propose(2)
        opened.record(first.number, math.inf)
        with pytest.raises(SearchError, match="no objective is finite"):
            opened.require_result()


def test_errors_of_every_trial_end_the_search(tmp_path: Path) -> None:
    results = iter([1.0, OutputError("the disk is full")])
    with pytest.raises(OutputError, match="the disk is full"):
        search(tmp_path, lambda _: next(results), n_trials=3)
    assert states(tmp_path) == ["COMPLETE", "WAITING"]
    assert len(search(tmp_path, n_trials=3)) == 3


def test_all_trials_fail(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="first 5 trials failed, the last with: ValueError: ours"):
        search(tmp_path / "a", lambda _: ValueError("ours"), n_trials=50)
    with pytest.raises(SearchError, match="first 2 trials failed"):
        search(tmp_path / "b", lambda _: ValueError("ours"), n_trials=2)
    message = "none of the 6 trials has a finite valid.perplexity, "
    with pytest.raises(SearchError, match=message + "no objective is finite"):
        search(tmp_path / "c", lambda _: math.inf, n_trials=6)
    with pytest.raises(SearchError, match=message + "the last with: the loss is"):
        search(tmp_path / "d", lambda _: TrainingError("the loss is nan"), n_trials=6)


def test_pruned_and_killed_before_the_search_knew(tmp_path: Path) -> None:
    with pytest.raises(BreakError):
        search(tmp_path, lambda _: (_ for _ in ()).throw(BreakError), n_trials=3)
    with open_search(tmp_path, space_of(), SearchConfig(n_trials=3), "valid.perplexity") as opened:
        (proposal,) = opened.propose(1)
        trial = opened.trials[proposal.number]
        opened.storage.set_trial_user_attr(trial._trial_id, "pruned", "pruned at step 7")
    assert states(tmp_path) == ["PRUNED"]
    assert len(search(tmp_path, n_trials=3)) == 3


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("choice(a, 1)", CategoricalDistribution(("a", "1"))),
        ("range(64, 257, 64)", IntDistribution(64, 256, step=64)),
        ("tag(log, int(interval(2, 9)))", IntDistribution(2, 9, log=True)),
        ("range(0, 0.7, 0.1)", FloatDistribution(0.0, 0.6, step=0.1)),
        ("tag(log, interval(0.001, 1))", FloatDistribution(0.001, 1.0, log=True)),
        ("interval(2, 2)", FloatDistribution(2.0, 2.0)),
    ],
)
def test_distributions(definition: str, expected: BaseDistribution) -> None:
    assert distribution(space_of(f"a={definition}").searched["a"]) == expected


def test_every_trial_has_random_numbers_of_its_own() -> None:
    """A sampler that restarted after an interruption would propose its first trials again."""
    pairs = [(seed, number) for seed in (1, 2) for number in (0, 1)]
    samplers = [sampler_of(SearchConfig(seed=seed), number) for seed, number in pairs]
    assert len({sampler._rng.rng.random() for sampler in samplers}) == 4  # type: ignore
