"""korlm.load: what a run directory gives back in Python."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import finish, make_settings, prepare_tiny

import korlm
from korlm.config import SentencePieceConfig
from korlm.data.prepared import Prepared
from korlm.data.reading import read_prepared
from korlm.errors import CheckpointError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    prepared = prepare_tiny(folder)
    finish(make_settings(prepared, {"epochs": 1}), prepared, folder / "run")
    return folder / "run", prepared


def test_a_run_reads_text_as_it_read_its_own(trained: tuple[Path, Prepared]) -> None:
    folder, prepared = trained
    run = korlm.load(str(folder))
    assert run.vocab.tokens == prepared.vocab.tokens
    assert not run.model.training
    (shard,) = read_prepared(prepared.folder, "valid", run.vocab, run.spelling)
    with run.reader() as reader:
        anew = reader.read_texts(shard.table["text"].to_pylist())
    assert anew.ids.tolist() == prepared.ids("valid").tolist()
    assert anew.spelling_nats.sum() == pytest.approx(prepared.stats["valid"].spelling_nats)


def test_what_a_tokenizer_learned_travels_with_the_run(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    tokenizer = SentencePieceConfig(name="sentencepiece", vocab_size=40)
    prepared = prepare_tiny(tmp_path, tokenizer=tokenizer)
    finish(make_settings(prepared, {"epochs": 1}), prepared, tmp_path / "run")
    expected = prepared.ids("valid").tolist()
    (shard,) = read_prepared(prepared.folder, "valid", prepared.vocab, prepared.spelling)
    shutil.rmtree(prepared.folder)
    run = korlm.load(tmp_path / "run")
    assert run.settings.tokenizer == tokenizer and run.learned == prepared.learned
    with run.reader() as reader:
        anew = reader.read_texts(shard.table["text"].to_pylist())
    assert anew.ids.tolist() == expected


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoints/best\.pt in there"):
        korlm.load(tmp_path)
