"""What slow tokenizers share: numbers in the place of null, lines that cannot cross."""

import os

import pytest

from korlm.config import KkmaConfig
from korlm.text.unicode import replace_lone_surrogates
from korlm.tokenizers.workers.external import with_defaults


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
