"""What is told of a job, as people read it on the terminal."""

import logging
from pathlib import Path

import pytest
from hydra.types import HydraContext
from omegaconf import OmegaConf

from korlm.sweeps.launchers.base import ProgressLogger, _to_job_return
from korlm.sweeps.launchers.job import JobResult, JobSpec
from korlm.utils.errors import OutputError, SweepError

CONTEXT: HydraContext = None  # type: ignore[assignment]
ORDER = JobSpec(CONTEXT, OmegaConf.create(), ("seed=1", "lr=2"), 7, Path("sweep/7"))


@pytest.mark.parametrize(
    ("outcome", "level", "told"),
    [
        (JobResult(value=40.0), "INFO", "job 7 finished (1 of 3) after 0 s: valid.perplexity 40"),
        (JobResult(failure="the disk is full"), "ERROR", "failed (1 of 3) after 0 s: the disk is"),
        (JobResult(failure="pruned at step 9", kind="Pruned"), "INFO", "ended (1 of 3) after 0 s"),
        (JobResult(), "INFO", "job 7 stopped (1 of 3) after 0 s"),
    ],
)
def test_how_a_job_ended(
    caplog: pytest.LogCaptureFixture, outcome: JobResult, level: str, told: str
) -> None:
    telling = ProgressLogger("valid.perplexity", 3)
    with caplog.at_level(logging.INFO):
        telling.start(ORDER)
        telling.end(ORDER, outcome)
    assert caplog.messages[0] == "job 7 starts"
    assert told in caplog.messages[1] and caplog.records[1].levelname == level


def test_a_failure_keeps_its_kind_on_the_way_from_another_process() -> None:
    full = _to_job_return(ORDER, JobResult(failure="the disk is full", kind="OutputError"))
    with pytest.raises(OutputError, match=r"^job 7: the disk is full$"):
        _ = full.return_value
    died = _to_job_return(ORDER, JobResult(failure="its process died"))
    with pytest.raises(SweepError, match=r"^job 7: its process died$"):
        _ = died.return_value
