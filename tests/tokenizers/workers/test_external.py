"""Defaults of worker settings; lone surrogates; the time of a line."""

import os
import threading
import time

import pytest

from korlm.config import KkmaConfig
from korlm.text.unicode import replace_lone_surrogates
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.workers.external import LineAnalyzer, with_defaults


def test_numbers_in_the_place_of_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("korlm.tokenizers.workers.external.available_cores", lambda: 6)
    assert with_defaults(KkmaConfig(name="kkma", workers=2, heap_mb=700)).threads == 3
    assert with_defaults(KkmaConfig(name="kkma", workers=8, heap_mb=700)).threads == 1
    assert with_defaults(KkmaConfig(name="kkma", threads=2, heap_mb=700)).heap_mb == 700
    if not hasattr(os, "sysconf"):
        return
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1 << 20}.get(name, 16_000))
    assert with_defaults(KkmaConfig(name="kkma", threads=2)).heap_mb == 1024
    assert with_defaults(KkmaConfig(name="kkma", threads=8)).heap_mb == 1792
    assert with_defaults(KkmaConfig(name="kkma", threads=8, workers=8)).heap_mb == 1000
    assert with_defaults(KkmaConfig(name="kkma", threads=8, workers=80)).heap_mb == 512


def test_lone_surrogates_do_not_cross() -> None:
    assert replace_lone_surrogates("가\ud800 😀 a") == "가\ufffd 😀 a"
    assert replace_lone_surrogates("가 a") == "가 a"


@pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"), reason="no clock of another thread's CPU time"
)
def test_a_busy_machine_does_not_use_up_the_time_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = threading.Event(), threading.Event()

    class Waiting(LineAnalyzer):
        def analyze_line(self, text: str) -> Analysis:
            begun.set()
            may_end.wait()
            return EMPTY

    analyzer = Waiting(KkmaConfig(name="kkma"))
    thread = threading.Thread(target=analyzer.analyze_lines, args=(["가"],))
    thread.start()
    begun.wait()
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 50)
    index, seconds = analyzer.current_line()
    may_end.set()
    thread.join()
    assert index == 0 and 5 <= seconds < 6
    assert analyzer.current_line()[0] == -1
