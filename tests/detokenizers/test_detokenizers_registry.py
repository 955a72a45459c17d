"""Which recomposer it is, and where what it has learnt lies."""

import logging
from pathlib import Path

import pytest
from analysed import write_prepared

from korlm.detokenizers.kkma.detokenizer import FILE, KkmaDetokenizer
from korlm.detokenizers.registry import build_detokenizer, copy_to_run, ensure_trained

TOKENS = ["나", "가", "노래", "를", "부르", "ㄴ다", "."]


def test_without_any_file_the_rules_stand_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detokenizer = build_detokenizer("kkma", (tmp_path,))
    assert "by rules alone" in caplog.text
    assert detokenizer.compose(["부르", "ㄴ다"], eojeol=[0, 0]) == "부른다"


def test_the_first_folder_that_has_the_file_counts(tmp_path: Path) -> None:
    prepared, run = write_prepared(tmp_path / "prepared"), tmp_path / "run"
    run.mkdir()
    ensure_trained("kkma", prepared)
    copy_to_run(prepared, run)
    assert (run / FILE).read_bytes() == (prepared / FILE).read_bytes()
    (prepared / FILE).write_bytes(b"damaged")
    assert build_detokenizer("kkma", (run, prepared)).compose(TOKENS) == "내가 노래를 부른다."


def test_a_prepared_corpus_without_the_file_is_learnt_from(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    learnt = build_detokenizer("kkma", (tmp_path / "run", prepared))
    assert learnt.compose(TOKENS) == "내가 노래를 부른다."
    assert isinstance(learnt, KkmaDetokenizer)
    assert KkmaDetokenizer.load(prepared / FILE).decisions == learnt.decisions


def test_a_prepared_corpus_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = write_prepared(tmp_path / "prepared")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with caplog.at_level(logging.WARNING):
        assert build_detokenizer("kkma", (prepared,)).compose(TOKENS) == "내가 노래를 부른다."
    assert "have to learn it again" in caplog.text
    assert {path.name for path in prepared.iterdir()} == {"tokens"}


@pytest.mark.parametrize("name", ["eojeol", "syllable", "jamo"])
def test_other_tokenizers_need_no_file(tmp_path: Path, name: str) -> None:
    ensure_trained(name, tmp_path)
    copy_to_run(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())
    assert build_detokenizer(name, (tmp_path,)).compose(["가"]) == "가"


def test_the_file_is_made_once(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    (prepared / FILE).write_bytes(b"there")
    ensure_trained("kkma", prepared)
    assert (prepared / FILE).read_bytes() == b"there"
