"""Kiwi and MeCab-ko: results equal those of their packages; workers survive their failures."""

import importlib.metadata
from pathlib import Path

import pytest

from korlm.config import WorkerConfig
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import analyses_of
from korlm.tokenizers.registry import tokenizer_version
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import TokenizerError, install_command

LINES = [
    "나는  학교에 갔다. 😀 \t ㅋㅋ http://a.b/c",
    " 국가대표팀 골키퍼 로베르트 엔케가, 사망했다(25일)",
    "너무재밓었다그래서보는것을추천한다!!",
    "굿\u3000굿\xa0굿 大韓民國",
    "",
    "가\x07나 \u200b다",
]


def analyses(config: WorkerConfig, batches: list[list[str]]) -> list[Analysis]:
    with TokenizerPool(config) as pool:
        return [analysis for columns in pool.map(batches) for analysis in analyses_of(columns)]


@pytest.mark.parametrize("name", ["kiwi", "mecab"])
def test_equals_its_package(name: str) -> None:
    if name == "kiwi":
        tagger = pytest.importorskip("kiwipiepy").Kiwi(num_workers=1)
        expected = [[(t.form, t.tag) for t in tagger.tokenize(line)] for line in LINES]
    else:
        tagger = pytest.importorskip("mecab").MeCab()
        expected = [tagger.pos(line) for line in LINES]
    results = analyses(WorkerConfig(name=name, threads=2, line_timeout_s=60.0), [LINES] * 3)
    for number, analysis in enumerate(results):
        line = LINES[number % len(LINES)]
        assert (
            list(zip(analysis.morphs, analysis.tags, strict=True)) == expected[number % len(LINES)]
        )
        assert analysis.status == ("ok" if line else "empty")
        assert analysis.eojeol == sorted(analysis.eojeol)
    last = len(LINES[0].split()) - 1
    assert results[0].eojeol[0] == 0 and results[0].eojeol[-1] == last


# A fake Kiwi

FAKE = """
import os
from collections import namedtuple

Token = namedtuple("Token", "form tag start len")


class Kiwi:
    def __init__(self, num_workers):
        pass

    def tokenize(self, texts):
        for text in texts:
            while "HANG!" in text:
                pass
            if "DIE!" in text:
                os._exit(3)
            if "ERROR!" in text:
                raise RuntimeError("no")
            yield [Token(c, "X", at, 1) for at, c in enumerate(text) if c != " "]
"""


def no_package(name: str) -> str:
    if name.startswith(("kiwi", "python-mecab")):
        raise importlib.metadata.PackageNotFoundError(name)
    return "1.0"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a fake kiwipiepy of version 9 for child processes."""
    (tmp_path / "kiwipiepy.py").write_text(FAKE)
    for name in ("kiwipiepy", "kiwipiepy_model"):
        (tmp_path / f"{name}-9.dist-info").mkdir()
        (tmp_path / f"{name}-9.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 9\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("fake")
def test_versions() -> None:
    version = tokenizer_version(WorkerConfig(name="kiwi"))
    assert version == "1, kiwipiepy 9, kiwipiepy-model 9, 10 s"
    assert tokenizer_version(WorkerConfig(name="kiwi", workers=2, threads=1)) == version


@pytest.mark.usefixtures("fake")
def test_lines_that_hang_kill_or_fail_are_not_lost() -> None:
    config = WorkerConfig(name="kiwi", threads=2, line_timeout_s=0.5)
    batches = [["가 나", "다 HANG! 라"], ["마 DIE! 바"], ["사", "아 ERROR! 자"], ["차"]]
    results = analyses(config, batches)
    assert [analysis.status for analysis in results] == [
        *("ok", "cut: too slow", "cut: process died", "ok", "cut: RuntimeError", "ok"),
    ]
    assert ["".join(analysis.morphs) for analysis in results] == [
        "".join(text.split()) for batch in batches for text in batch
    ]
    assert results[1].eojeol == [0, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("name", ["kiwi", "mecab"])
def test_a_package_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", no_package)
    package = {"kiwi": "kiwipiepy", "mecab": "python-mecab-ko"}[name]
    line = f"tokenizer={name}: {package} is not installed: {install_command(package)}"
    with pytest.raises(TokenizerError) as caught:
        TokenizerPool(WorkerConfig(name=name))
    assert str(caught.value) == line
