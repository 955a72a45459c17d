"""Choice of the detokenizer and its trained file."""

import logging
from pathlib import Path

import pytest
from analysed import write_prepared

from korlm.detokenizers.kkma.detokenizer import FILE, KkmaDetokenizer
from korlm.detokenizers.registry import build_detokenizer, copy_to_run, ensure_trained

TOKENS = ["나", "가", "노래", "를", "부르", "ㄴ다", "."]


def test_without_a_file_only_rules_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    detokenizer = build_detokenizer("kkma", (tmp_path,))
    assert "using rules only" in caplog.text
    assert detokenizer.detokenize(["부르", "ㄴ다"], eojeol=[0, 0]) == "부른다"


def test_the_file_of_the_first_folder_is_loaded(tmp_path: Path) -> None:
    prepared, run = write_prepared(tmp_path / "prepared"), tmp_path / "run"
    run.mkdir()
    ensure_trained("kkma", prepared)
    copy_to_run(prepared, run)
    assert (run / FILE).read_bytes() == (prepared / FILE).read_bytes()
    (prepared / FILE).write_bytes(b"damaged")
    assert build_detokenizer("kkma", (run, prepared)).detokenize(TOKENS) == "내가 노래를 부른다."


def test_the_detokenizer_is_trained_on_a_prepared_corpus(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    trained = build_detokenizer("kkma", (tmp_path / "run", prepared))
    assert trained.detokenize(TOKENS) == "내가 노래를 부른다."
    assert isinstance(trained, KkmaDetokenizer)
    assert KkmaDetokenizer.load(prepared / FILE).decisions == trained.decisions


def test_a_read_only_prepared_corpus_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = write_prepared(tmp_path / "prepared")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with caplog.at_level(logging.WARNING):
        assert build_detokenizer("kkma", (prepared,)).detokenize(TOKENS) == "내가 노래를 부른다."
    assert "have to train it again" in caplog.text
    assert {path.name for path in prepared.iterdir()} == {"tokens"}


@pytest.mark.parametrize("name", ["eojeol", "syllable", "jamo"])
def test_other_tokenizers_write_no_file(tmp_path: Path, name: str) -> None:
    ensure_trained(name, tmp_path)
    copy_to_run(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())
    assert build_detokenizer(name, (tmp_path,)).detokenize(["가"]) == "가"


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepared")
    (prepared / FILE).write_bytes(b"there")
    ensure_trained("kkma", prepared)
    assert (prepared / FILE).read_bytes() == b"there"
