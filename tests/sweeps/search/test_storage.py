"""The database of a search: damaged, and in folders of any name."""

from __future__ import annotations

from pathlib import Path

import pytest
from searches import search, space_of

from korlm.config import SearchConfig
from korlm.sweeps.search.storage import running_trial, storage_of, study_for_jobs
from korlm.sweeps.search.study import open_search
from korlm.utils.errors import OutputError


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
