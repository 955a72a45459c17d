"""Progress of long phases is logged if stderr is not a terminal."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable

import pytest

from korlm.utils import progress
from korlm.utils.progress import ProgressBar

Clock = Callable[[float], None]


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    """Advance the clock of progress bars."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_a_line_a_minute(wait: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with ProgressBar(desc="training", total=400, unit="step", initial=100) as bar:
        for _ in range(6):
            wait(29)
            bar.update(10)
        bar.set_postfix_str("loss 2.5", refresh=False)
        wait(66)
        bar.update(40)
    assert caplog.messages == [
        "training: 32% (130 of 400 steps) in 01:27, about 13:03 left",
        "training: 40% (160 of 400 steps) in 02:54, about 11:36 left",
        "training: 50% (200 of 400 steps) in 04:00, about 08:00 left; loss 2.5",
    ]


def test_short_phases_log_nothing(
    wait: Clock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar(desc="scoring", total=10) as bar:
        wait(59)
        bar.update(10)
    assert not caplog.messages and capsys.readouterr() == ("", "")


def test_the_rate_excludes_work_of_an_earlier_run(
    wait: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with ProgressBar(desc="tokenizing", total=4e6, unit="char", unit_scale=True) as bar:
        bar.skip(2e6)
        wait(100)
        bar.update(1e6)
    assert caplog.messages == ["tokenizing: 75% (3.00M of 4.00M chars) in 01:40, about 01:40 left"]


def test_iteration_and_unknown_totals(wait: Clock, caplog: pytest.LogCaptureFixture) -> None:
    for _ in ProgressBar(iter("abc"), "reading", unit="line"):
        wait(60)
    assert caplog.messages[-1] == "reading: 3 lines in 03:00"
    assert len(caplog.messages) == 3


def test_a_hidden_bar_is_not_logged(wait: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with ProgressBar(desc="evaluating", total=10, shown=False) as bar:
        wait(500)
        bar.update(5)
        bar.skip(5)
    assert not caplog.messages


def test_a_terminal_has_a_bar(
    wait: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressBar(desc="training", total=10) as bar:
        bar.skip(4)
        wait(500)
        bar.update(6)
    assert "training: 100%" in terminal.getvalue() and not caplog.messages
