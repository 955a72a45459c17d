"""SIGTERM and SIGHUP act like Ctrl-C, once."""

import os
import signal
import threading

import pytest

from korlm.utils.signals import preserve_sigint_handler, signals_as_keyboard_interrupt, stop_signals

POLITE = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("number", POLITE)
def test_the_first_one_counts(number: int) -> None:
    before = [signal.getsignal(polite) for polite in POLITE]
    with signals_as_keyboard_interrupt():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        for again in POLITE:
            os.kill(os.getpid(), again)
    assert [signal.getsignal(polite) for polite in POLITE] == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_is_honoured() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in stop_signals()
        with signals_as_keyboard_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_receive_no_signals() -> None:
    received: list[list[int]] = []

    def work() -> None:
        with signals_as_keyboard_interrupt():
            received.append(stop_signals())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [[]]


def test_a_library_that_takes_ctrl_c_gives_it_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with preserve_sigint_handler():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before
