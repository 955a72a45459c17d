"""``vocab.file``: a vocabulary from a file instead of the training text."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LIGHT, Command, TinyCorpus
from tiny_runs import corpus_in, prepare_tiny

from korlm.config import TokenizerConfig, VocabConfig
from korlm.dataset.prepare import prepare
from korlm.dataset.vocab import SPECIALS, read_given_vocab
from korlm.utils.errors import VocabError

SYLLABLE = TokenizerConfig(name="syllable")


def in_file(folder: Path, text: str | bytes, **settings: bool) -> VocabConfig:
    path = folder / "tokens.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return VocabConfig(file=str(path), **settings)


@pytest.mark.parametrize(
    "text",
    [
        "나\n는\n가\n",
        "나\n는\n가",
        "\ufeff나\r\n는\r\n가\r\n",
        "<pad>\n<unk>\n<bos>\n<eos>\n나\n는\n가\n",
        "<pad>\t0\n<unk>\t5\n<bos>\t0\n<eos>\t2\n나\t3\n는\t2\n가\t1\n",
    ],
)
def test_tokens_keep_their_order(tmp_path: Path, text: str) -> None:
    vocab = read_given_vocab(in_file(tmp_path, text))
    assert vocab is not None and vocab.tokens == [*SPECIALS, "나", "는", "가"]


def test_escapes_are_those_of_tables(tmp_path: Path) -> None:
    vocab = read_given_vocab(in_file(tmp_path, "a\\tb\t1\n\\\\\t1\n"))
    assert vocab is not None and vocab.tokens[4:] == ["a\tb", "\\"]
    vocab = read_given_vocab(in_file(tmp_path, "a\\tb\n"))
    assert vocab is not None and vocab.tokens[4:] == ["a\\tb"]
    assert read_given_vocab(VocabConfig()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; write one token on each line"),
        ("<unk>\n", "is empty; write one token on each line"),
        ("가\n\n나\n", "line 2 is blank; remove it"),
        ("가\n나\n가\n", "line 3 has '가' of line 1 again; remove it"),
        ("가\t1\n나\n", "line 2 must be a token, a tab and its count"),
        ("가\t1\n나\tx\n", "line 2 must be a token, a tab and its count"),
        (
            b"\xb0\xa1\n",
            "cannot be read (is not UTF-8 at byte 1); convert it, or name another file",
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(VocabError) as caught:
        read_given_vocab(in_file(tmp_path, text))
    assert str(caught.value) == f"vocab.file={tmp_path / 'tokens.txt'}: {message}"


def test_tokens_that_cannot_occur(tmp_path: Path) -> None:
    with pytest.raises(VocabError, match="line 1 has 'KBS', which tokens never are"):
        read_given_vocab(in_file(tmp_path, "KBS\n", lowercase=True))
    with pytest.raises(VocabError, match="write '<num>' or change the settings"):
        read_given_vocab(in_file(tmp_path, "12\n", normalize_numbers=True))
    with pytest.raises(VocabError, match="cannot be read"):
        read_given_vocab(VocabConfig(file=str(tmp_path / "nowhere.txt")))


def test_the_tokens_decide_the_fingerprint(tmp_path: Path) -> None:
    plain = prepare_tiny(tmp_path)
    corpus = corpus_in(tmp_path)
    first = prepare(corpus, SYLLABLE, in_file(tmp_path, "나\n는\n"), tmp_path)
    assert first.vocab.tokens == [*SPECIALS, "나", "는"]
    assert sum(first.vocab.counts) == sum(plain.vocab.counts)
    assert first.vocab.counts[4] == plain.vocab.counts[plain.vocab.tokens.index("나")]
    other = prepare(corpus, SYLLABLE, in_file(tmp_path, "나\n집\n"), tmp_path)
    assert len({plain.folder, first.folder, other.folder}) == 3
    (tmp_path / "copy.tsv").write_text("나\t7\n는\t1\n", encoding="utf-8")
    config = VocabConfig(file=str(tmp_path / "copy.tsv"))
    assert prepare(corpus, SYLLABLE, config, tmp_path).folder == first.folder


def test_the_command(korlm: Command, tiny: TinyCorpus, tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("나\n는\n다\n", encoding="utf-8")
    options = [*tiny.overrides, *LIGHT, "trainer.max_steps=1", "vocab.file=tokens.txt"]
    ended = korlm("train", *options, "vocab.min_freq=3", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    assert "vocab.min_freq=3 has no effect: vocab.file has the tokens" in ended.out
    (tmp_path / "tokens.txt").unlink()  # the run contains its vocabulary
    assert korlm("generate", "run=run", "max_tokens=3").code == 0
    ended = korlm("train", *options)
    assert "vocab.file=tokens.txt: cannot be read" in ended.error
