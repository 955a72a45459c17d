"""What is told of a job, as people read it on the terminal."""

import logging
from pathlib import Path

import pytest
from hydra.types import HydraContext
from omegaconf import OmegaConf

from korlm.sweeps.launchers.base import Telling, _as_hydra_has_it
from korlm.sweeps.launchers.job import Order, Outcome
from korlm.utils.errors import OutputError, SweepError

CONTEXT: HydraContext = None  # type: ignore[assignment]
ORDER = Order(CONTEXT, OmegaConf.create(), ("seed=1", "lr=2"), 7, Path("sweep/7"))


@pytest.mark.parametrize(
    ("outcome", "level", "told"),
    [
        (Outcome(value=40.0), "INFO", "job 7 finished (1 of 3) after 0 s: valid.perplexity 40"),
        (Outcome(failure="the disk is full"), "ERROR", "failed (1 of 3) after 0 s: the disk is"),
        (Outcome(failure="pruned at step 9", kind="Pruned"), "INFO", "ended (1 of 3) after 0 s"),
        (Outcome(), "INFO", "job 7 stopped (1 of 3) after 0 s"),
    ],
)
def test_how_a_job_ended(
    caplog: pytest.LogCaptureFixture, outcome: Outcome, level: str, told: str
) -> None:
    telling = Telling("valid.perplexity", 3)
    with caplog.at_level(logging.INFO):
        telling.start(ORDER)
        telling.end(ORDER, outcome)
    assert caplog.messages[0] == "job 7 starts"
    assert told in caplog.messages[1] and caplog.records[1].levelname == level


def test_a_failure_keeps_its_kind_on_the_way_from_another_process() -> None:
    full = _as_hydra_has_it(ORDER, Outcome(failure="the disk is full", kind="OutputError"))
    with pytest.raises(OutputError, match=r"^job 7: the disk is full$"):
        _ = full.return_value
    died = _as_hydra_has_it(ORDER, Outcome(failure="its process died"))
    with pytest.raises(SweepError, match=r"^job 7: its process died$"):
        _ = died.return_value
