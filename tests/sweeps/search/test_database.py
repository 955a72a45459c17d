"""The database of a search: damaged, and in folders of any name."""

from __future__ import annotations

from pathlib import Path

import pytest
from searches import search, space_of

from korlm.config import Pruner, SearchConfig
from korlm.config.metrics import cost
from korlm.sweeps.search.database import open_callback, running_trial, storage_of, study_for_jobs
from korlm.sweeps.search.study import Search, failure_reason, open_search
from korlm.utils.errors import OutputError, Pruned, TrainingError


def test_a_damaged_database(tmp_path: Path) -> None:
    (tmp_path / "search.db").write_bytes(b"no database" * 1000)
    with pytest.raises(OutputError, match=r"search\.db: the search cannot use it .*not a database"):
        search(tmp_path)


def test_any_folder(tmp_path: Path) -> None:
    assert len(search(tmp_path / "실험 1 #%20", n_trials=1)) == 1
    assert (tmp_path / "실험 1 #%20" / "search.db").is_file()


def test_a_job_finds_its_trial(tmp_path: Path) -> None:
    """A job is identified by its overrides in any process; resume= and outputs= do not count."""
    with open_search(
        tmp_path, space_of(), SearchConfig(n_trials=2, n_jobs=2), "valid.loss"
    ) as opened:
        first, second = opened.propose(2)
        with storage_of(tmp_path) as storage:
            study = study_for_jobs(storage)
            ids = [running_trial(study, each.overrides) for each in (first, second)]
            assert None not in ids and len(set(ids)) == 2
            assert running_trial(study, ["resume=x", *reversed(second.overrides)]) == ids[1]
            assert running_trial(study, ["lr=0.1"]) is None
        opened.record(first.number, 1.0)
        with storage_of(tmp_path) as storage:
            assert running_trial(study_for_jobs(storage), first.overrides) is None


PERPLEXITY = "valid.perplexity"


def trial(
    search: Search, folder: Path, values: dict[float, float], objective: str = PERPLEXITY
) -> str:
    """Run the validations of the next trial; return the reason if it is pruned."""
    (proposal,) = search.propose(1)
    with open_callback(folder, proposal.overrides, objective) as watch:
        assert watch is not None
        try:
            for share, value in values.items():
                key = objective.partition(".")[2]
                watch(round(100 * share), share, {key: value})
        except Pruned as error:
            search.record(proposal.number, error)
            return str(error)
    search.record(proposal.number, min(cost(objective, value) for value in values.values()))
    return ""


@pytest.mark.parametrize(
    ("values", "pruned_at"),
    [
        ({0.25: 90.0, 0.5: 80.0, 1: 70.0}, 50),  # worse at a step that may be pruned
        ({0.25: 90.0, 0.5: 50.0, 1: 99.0}, None),  # the last validation is not pruned
        ({0.25: 20.0, 0.5: 80.0, 1: 70.0}, None),  # the best value counts, not the last
        ({0.3: 90.0, 0.6: 90.0, 1: 70.0}, None),  # no other trial has values at these steps
    ],
)
def test_the_hopeless_end_early(
    tmp_path: Path, values: dict[float, float], pruned_at: int | None
) -> None:
    config = SearchConfig(n_trials=9, prune_min_trials=3, prune_warmup_ratio=0.3)
    with open_search(tmp_path, space_of(), config, PERPLEXITY) as search:
        for best in (50.0, 60.0, 70.0):
            assert trial(search, tmp_path, {0.25: best + 20, 0.5: best, 1: best - 10}) == ""
        failure = trial(search, tmp_path, values)
        assert (f"pruned at step {pruned_at}, " in failure) == (pruned_at is not None)
        assert bool(failure) == (pruned_at is not None)
        assert search.trials[-1].state.name == ("PRUNED" if failure else "COMPLETE")


@pytest.mark.parametrize("objective", ["valid.accuracy", "valid.f1", "valid.exact_match"])
def test_larger_metrics_of_tasks_are_better(tmp_path: Path, objective: str) -> None:
    config = SearchConfig(n_trials=9, prune_min_trials=3, prune_warmup_ratio=0.3)
    with open_search(tmp_path, space_of(), config, objective) as search:
        for best in (0.5, 0.6, 0.7):
            assert trial(search, tmp_path, {0.5: best, 1: best}, objective) == ""
        assert trial(search, tmp_path, {0.5: 0.9, 1: 0.9}, objective) == ""
        failure = trial(search, tmp_path, {0.5: 0.25, 1: 0.9}, objective)
        assert failure.startswith(
            f"pruned at step 50, 50% of its training: {objective} 0.25, worse"
        )


@pytest.mark.parametrize(
    ("objective", "pruner", "before"),
    [
        ("valid.perplexity", Pruner.none, 3),
        ("valid.seconds", Pruner.median, 3),  # speed is comparable only at the end
        ("valid.perplexity", Pruner.median, 2),  # too few other trials
    ],
)
def test_nothing_is_pruned(tmp_path: Path, objective: str, pruner: Pruner, before: int) -> None:
    config = SearchConfig(n_trials=9, prune_min_trials=3, prune_warmup_ratio=0.0, pruner=pruner)
    with open_search(tmp_path, space_of(), config, objective) as search:
        for _ in range(before):
            trial(search, tmp_path, {0.5: 5.0, 1: 5.0}, objective)
        assert trial(search, tmp_path, {0.5: 99.0, 1: 99.0}, objective) == ""


def test_a_resumed_trial_reports_again(tmp_path: Path) -> None:
    with open_search(tmp_path, space_of(), SearchConfig(n_trials=1), PERPLEXITY) as search:
        trial(search, tmp_path, {0.5: 7.0, 1.0: 6.0})
        assert search.trials[0].intermediate_values == {500_000: 7.0, 1_000_000: 6.0}


def test_the_search_finds_pruned_jobs_of_any_launcher(tmp_path: Path) -> None:
    """A launcher of remote jobs may return an exception of its own."""
    with open_search(tmp_path, space_of(), SearchConfig(n_trials=2), PERPLEXITY) as search:
        (proposal,) = search.propose(1)
        with (
            pytest.raises(TrainingError),
            open_callback(tmp_path, proposal.overrides, PERPLEXITY),
        ):
            raise TrainingError("the loss is not finite")
        search.record(proposal.number, RuntimeError("job 0: the loss is not finite"))
        assert search.trials[0].state.name == "PRUNED"
        assert failure_reason(search.trials[0]) == "the loss is not finite"
        (proposal,) = search.propose(1)
        search.record(proposal.number, RuntimeError("job 1: no memory"))
        assert search.trials[1].state.name == "FAIL"


def test_other_jobs_are_not_watched(tmp_path: Path) -> None:
    with open_callback(tmp_path, ["seed=1"], PERPLEXITY) as watch:
        assert watch is None
    assert not list(tmp_path.iterdir())
    with open_search(tmp_path, space_of(), SearchConfig(n_trials=1), PERPLEXITY) as search:
        search.propose(1)
        with open_callback(tmp_path, ["seed=1"], PERPLEXITY) as watch:
            assert watch is None
