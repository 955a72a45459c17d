"""ARPA files: round trips, files of other programs, errors with line numbers."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import VOCAB_SIZE, random_text

from korlm.config import NgramConfig, Smoothing
from korlm.dataset.vocab import SPECIALS
from korlm.models.ngram.arpa import arpa_word, read_arpa, write_arpa
from korlm.models.ngram.model import NgramLM
from korlm.models.ngram.smoothing import NgramTable
from korlm.utils.errors import ConfigError, OutputError

LMPLZ = Path(__file__).parent / "lmplz"  # its README names the source
ODD = [
    "집",
    "New York",
    "<s>",
    "</s>",
    "\\u0020",
    "\u3000\t",
]  # spaces and tokens that look like markup
TOKENS = [*SPECIALS, *ODD, "<UNK>"]
assert len(TOKENS) == VOCAB_SIZE


def make_model(order: int = 3, **config: object) -> NgramLM:
    model = NgramLM(NgramConfig(name="ngram", order=order, **config), VOCAB_SIZE)
    model.fit(random_text(400, seed=1))
    return model


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@pytest.mark.parametrize("smoothing", Smoothing)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_round_trip(tmp_path: Path, name: str, smoothing: Smoothing, order: int) -> None:
    model = make_model(order, smoothing=smoothing)
    path = tmp_path / name
    write_arpa(path, model.tables(), TOKENS)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    again = NgramLM(model.config, VOCAB_SIZE)
    again.set_tables(read_arpa(path, TOKENS, order))
    inputs = torch.tensor(random_text(50, seed=2))[None]
    before, after = (m.log_probs(inputs)[0] for m in (model, again))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert again.num_grams == model.num_grams


def test_reads_kenlms_file() -> None:
    text = (LMPLZ / "train.txt").read_text(encoding="utf-8")
    tokens = [*SPECIALS, *sorted(set(text.split()))]
    ids = {token: number for number, token in enumerate(tokens)}
    stream = [i for line in text.splitlines() for i in [*(ids[w] for w in line.split()), 3]]
    counted = NgramLM(NgramConfig(name="ngram", order=3), len(tokens))
    counted.fit(np.array(stream))
    tables = read_arpa(LMPLZ / "order3.arpa", tokens, 3)
    for actual, expected in zip(tables, counted.tables(), strict=True):
        assert actual.keys.tolist() == expected.keys.tolist()
        np.testing.assert_allclose(actual.log_probs, expected.log_probs, atol=5e-6)
        np.testing.assert_allclose(actual.backoffs, expected.backoffs, atol=5e-6)


def test_written_text(tmp_path: Path) -> None:
    """Special tokens have ARPA's names; each n-gram is one line; words contain no spaces."""
    path = tmp_path / "model.arpa"
    model = make_model(2)
    write_arpa(path, model.tables(), TOKENS)
    lines = path.read_text(encoding="utf-8").split("\n")
    sizes = [VOCAB_SIZE - 1, len(model.tables()[1].keys)]
    assert lines[:4] == ["\\data\\", f"ngram 1={sizes[0]}", f"ngram 2={sizes[1]}", ""]
    assert lines[4] == "\\1-grams:"
    assert lines[-3:] == ["", "\\end\\", ""]
    words = [line.split("\t")[1] for line in lines[5 : 5 + sizes[0]]]
    plain = ["집", "New\\u0020York", "\\u003cs>", "\\u003c/s>", "\\\\u0020", "\\u3000\\u0009"]
    assert lines[7].split("\t")[1:] == ["</s>", "0"]  # no context ends with </s>
    assert words == ["<s>", "<unk>", "</s>", *plain, "\\u003cUNK>"]
    bigrams = [line.split("\t")[1].split(" ") for line in lines if line.count("\t") == 1]
    assert len(bigrams) == sizes[1]
    assert all(len(bigram) == 2 for bigram in bigrams)
    assert not any(first == "</s>" or last == "<s>" for first, last in bigrams)


def test_words_of_other_programs_may_look_like_escapes(tmp_path: Path) -> None:
    """Other programs do not escape a backslash."""
    path = tmp_path / "model.arpa"
    write_arpa(path, make_model(1).tables(), TOKENS)
    tokens = [token.replace("\\u0020", "^\\^") for token in TOKENS]
    path.write_text(path.read_text("utf-8").replace("\\\\u0020", "^\\^"), encoding="utf-8")
    assert len(read_arpa(path, tokens, 1)[0].keys) == VOCAB_SIZE


def test_words_differ_as_tokens_do() -> None:
    assert len({arpa_word(token) for token in TOKENS} | {"<s>", "</s>", "<unk>"}) == len(TOKENS) + 2


def changed(path: Path, tokens: list[str], change: Callable[[str], str]) -> list[NgramTable]:
    """Write a bigram model, change the text of its file, and read it."""
    write_arpa(path, make_model(2).tables(), tokens)
    path.write_text(change(path.read_text("utf-8")), encoding="utf-8", newline="")
    return read_arpa(path, tokens, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("<unk>", "<UNK>"),
        lambda text: "\ufeff" + text,
        lambda text: "\n" + text,
        lambda text: "\ufeffmade by ngram-count\n\n -1 x\n" + text,
        lambda text: text.replace("\n", " \t\r\n ").replace("ngram ", "ngram\t"),
    ],
    ids=["upper_case", "byte_order_mark", "blank_line", "comment", "blanks"],
)
def test_files_of_other_programs(tmp_path: Path, change: Callable[[str], str]) -> None:
    path, tokens = tmp_path / "model.arpa", [*TOKENS[:-1], "unknown"]
    expected = changed(path, tokens, lambda text: text)
    for actual, table in zip(changed(path, tokens, change), expected, strict=True):
        assert actual.keys.tolist() == table.keys.tolist()
        assert actual.log_probs.tolist() == table.log_probs.tolist()


def test_a_rounded_probability_is_at_most_1(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    write_arpa(path, make_model(1).tables(), TOKENS)
    lines = path.read_text("utf-8").split("\n")
    lines[5] = "1e-7\t<unk>"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_arpa(path, TOKENS, 1)[0].log_probs.max() == 0


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    tables = make_model(2).tables()
    for name in ("first.gz", "second.gz"):
        write_arpa(tmp_path / name, tables, TOKENS)
    data = (tmp_path / "first.gz").read_bytes()
    assert data == (tmp_path / "second.gz").read_bytes()
    assert data[3:8] == bytes(5)  # no name, no time


def test_file_without_sentence_start(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    write_arpa(path, make_model(1).tables(), TOKENS)
    lines = path.read_text("utf-8").split("\n")
    lines = [line for line in lines if line.split("\t")[1:2] != ["<s>"]]
    size = int(lines[1].split("=")[1])
    path.write_text("\n".join(lines).replace(f"1={size}", f"1={size - 1}"), encoding="utf-8")
    with pytest.raises(ConfigError, match="<s> is missing in the unigrams"):
        read_arpa(path, TOKENS, 1)


def drop(line: int) -> Callable[[list[str]], None]:
    return lambda lines: lines.pop(line - 1) and None


def put(line: int, text: str) -> Callable[[list[str]], None]:
    return lambda lines: lines.__setitem__(line - 1, text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put(1, "data"), r"the file ends before \\data\\"),
        (put(1, "iARPA"), "line 1: IRSTLM's own format: convert it with compile-lm --text=yes$"),
        (put(2, "ngram 2=3"), "line 2: expected the number of n-grams of order 1"),
        (put(2, "gram 1=10"), "line 2: expected ngram 1=SIZE: damaged"),
        (put(2, "ngram 1=" + "9" * 5000), "line 2: expected ngram 1=SIZE: damaged"),
        (drop(3), "line 4: the model has order 1, but model.order=2: set model.order=1"),
        (put(2, "ngram 1=9999"), "10 n-grams of order 1, but the header says 9,999"),
        (put(5, "\\2-grams:"), r"line 5: expected \\1-grams:"),
        (put(7, "-1"), "line 7: expected a probability and 1 tokens"),
        (put(7, "one\t<unk>\t0"), "line 7: expected numbers"),
        (put(7, "0.5\t<unk>\t0"), "line 7: the log10 of a probability"),
        (put(7, "nan\t<unk>\t0"), "line 7: the log10 of a probability"),
        (put(7, "-1\t<unk>\tinf"), "line 7: the log10 of a backoff weight must be finite"),
        (put(7, "-1\t<unk>\tnan"), "line 7: the log10 of a backoff weight must be finite"),
        (put(7, "-1\t집\t0"), "duplicate token"),
        (put(9, "-1\t방\t0"), "line 9: '방' is not in the run's vocabulary"),
        (put(9, "-1\t<pad>\t0"), "line 9: '<pad>' is not in the run's vocabulary"),
        (put(18, "-1\t</s> 집"), "line 18: <s> is allowed only at the start"),
        (put(18, "-1\t집 <s>"), "line 18: <s> is allowed only at the start"),
        (put(19, "-1\t<unk> <unk>"), "line 19: duplicate n-gram"),
        (lambda lines: lines.remove("\\end\\"), "the file ends before"),
    ],
)
def test_damaged_files(tmp_path: Path, damage: Callable[[list[str]], None], message: str) -> None:
    path = tmp_path / "model.arpa"
    write_arpa(path, make_model(2).tables(), TOKENS)
    lines = path.read_text(encoding="utf-8").split("\n")
    assert lines[16].endswith("-grams:") and lines[17].endswith("<unk> <unk>")
    damage(lines)
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read_arpa(path, TOKENS, 2)
    assert str(caught.value).startswith(f"model.arpa={path}: ")
    assert "\n" not in str(caught.value)


def test_missing_tokens_and_contexts(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    model = make_model(3)
    write_arpa(path, model.tables(), TOKENS)
    with pytest.raises(ConfigError, match=r"1 tokens of the run's vocabulary .* 'new'"):
        read_arpa(path, [*TOKENS, "new"], 3)
    lines = path.read_text(encoding="utf-8").split("\n")
    trigram = next(line for line in lines if line.count(" ") == 2 and "ngram" not in line)
    context = trigram.split("\t")[1].rpartition(" ")[0]
    index = next(n for n, line in enumerate(lines) if f"\t{context}\t" in line)
    lines[2] = f"ngram 2={int(lines[2].split('=')[1]) - 1}"
    lines.pop(index)
    path.write_text("\n".join(lines), encoding="utf-8")
    number = lines.index(trigram) + 1
    with pytest.raises(ConfigError, match=f"line {number}: the n-gram without its last token"):
        read_arpa(path, TOKENS, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.arpa", None, "No such file"),
        ("folder", None, "Is a directory|Permission denied"),
        ("binary.arpa", b"\xff\xfe\x00", "damaged or not an ARPA file"),
        (
            "cut.gz",
            gzip.compress(b"\\data\\\nngram 1=3\n" * 99, mtime=0)[:30],
            "damaged or not an ARPA file",
        ),
        ("broken.gz", b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 9, "damaged or not an ARPA file"),
        ("empty.arpa", b"", "line 1: the file ends before"),
        (
            "model.klm",
            b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(99),
            "KenLM's binary format, which has hashes instead of words; use the ARPA file",
        ),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_arpa(path, TOKENS, 2)
    assert "\n" not in str(caught.value)


def test_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_arpa(tmp_path / "model.arpa.gz", make_model().tables(), TOKENS, stop)
    assert not list(tmp_path.iterdir())


def test_unwritable_path(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_arpa(tmp_path / "absent" / "model.arpa", make_model().tables(), TOKENS)
