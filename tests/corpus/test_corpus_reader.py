"""Files to lines with document and split: no line is lost, no document is divided."""

import csv
import io
import itertools
import json
import os
import random
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from fakes import Line, one_by_one
from one_line import error_of

from korlm.config import CorpusConfig, CorpusFormat, DocumentUnit, TextConfig
from korlm.corpus import files
from korlm.corpus import reader as corpus_module
from korlm.corpus.files import read_blocks, read_lines
from korlm.corpus.normalization import has_text, normalize
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import INPUT, find_inputs, find_sources
from korlm.corpus.splits import ContiguousSplit, split_of
from korlm.utils.errors import CorpusError


def config(**settings: Any) -> CorpusConfig:
    return CorpusConfig(name="test", **settings)


def write(path: Path, text: str = "가\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return str(path)


def names_of(settings: CorpusConfig) -> list[str]:
    return [source.name for source in find_sources(settings)]


def lines_of(settings: CorpusConfig) -> list[Line]:
    return one_by_one(read_corpus(settings, find_sources(settings)))


# Files


def test_a_file_a_folder_and_a_glob(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.tsv", "sub/d.jsonl.gz", "sub/e.txt.zst", "f.csv"):
        write(tmp_path / "texts" / name)
    for name in ("notes.md", "picture.png", "sub/archive.gz", "noending", ".hidden"):
        write(tmp_path / "texts" / name)
    folder = tmp_path / "texts"
    assert names_of(config(files=[str(folder / "b.txt")])) == ["b.txt"]
    assert names_of(config(files=[f"{folder}/*.txt"])) == ["a.txt", "b.txt"]
    assert names_of(config(files=[f"{folder}/**/*.t*"])) == [
        *("a.txt", "b.txt", "sub/c.tsv", "sub/e.txt.zst")
    ]
    # A file that is named may have any ending.
    assert names_of(config(files=[str(folder / "notes.md")])) == ["notes.md"]
    for name in ("._a.txt", ".ipynb_checkpoints/a.txt", "__MACOSX/a.txt"):
        write(folder / name)
    assert names_of(config(files=[str(folder)])) == [
        *("a.txt", "b.txt", "f.csv", "sub/c.tsv", "sub/d.jsonl.gz", "sub/e.txt.zst")
    ]


def test_a_glob_names_a_file_the_same_when_others_are_added(tmp_path: Path) -> None:
    write(tmp_path / "2024" / "a.txt")
    pattern = config(files=[f"{tmp_path}/*/*.txt"])
    assert names_of(pattern) == ["2024/a.txt"]
    write(tmp_path / "2025" / "a.txt")
    assert names_of(pattern) == ["2024/a.txt", "2025/a.txt"]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.txt")
    write(tmp_path / "sub" / "b.txt")
    monkeypatch.chdir(tmp_path)
    assert names_of(config(files=["*.txt"])) == ["a.txt"]
    assert names_of(config(files=["./sub/*"])) == ["b.txt"]
    assert names_of(config(files=["**/*.txt"])) == ["a.txt", "sub/b.txt"]
    write(tmp_path / "노래[1].txt")  # looks like a glob
    assert names_of(config(files=["노래[1].txt"])) == ["노래[1].txt"]
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert names_of(config(files=["~/a.txt"])) == ["a.txt"]


def test_bundled_corpora() -> None:
    bill = "konlpy:kobill/1809890.txt"
    (law, given) = find_sources(config(train=["konlpy:kolaw/constitution.txt"], valid=[bill]))
    assert (law.name, law.split, law.size) == ("kolaw/constitution.txt", "train", 45859)
    assert (given.name, given.split) == ("kobill/1809890.txt", "valid")
    assert "jpype" not in sys.modules
    error_of(lambda: find_sources(config(files=["konlpy:nothing.txt"])), "nothing.txt")


def test_splits_as_given(tmp_path: Path) -> None:
    paths = {split: write(tmp_path / f"{split}.txt") for split in ("train", "valid", "test")}
    sources = find_sources(config(**{split: [path] for split, path in paths.items()}))
    assert [source.split for source in sources] == ["train", "valid", "test"]
    # Only documents without a fixed split are assigned by hash.
    mixed = config(files=[paths["train"]], valid=[paths["valid"]], test_fraction=0.0)
    assert [source.split for source in find_sources(mixed)] == [None, "valid"]
    assert [line.split for line in lines_of(mixed)][1] == "valid"


def test_one_name_for_each_file(tmp_path: Path) -> None:
    paths = [write(tmp_path / name) for name in ("a/x.txt", "b/x.txt", "y.txt")]
    assert names_of(config(files=paths)) == ["a/x.txt", "b/x.txt", "y.txt"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "가\n나\n")
    settings = config(train=[path, str(tmp_path), f"{tmp_path}/*.txt"])
    assert [line.text for line in lines_of(settings)] == ["가", "나"]


def test_a_file_in_two_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt")
    linked = tmp_path / "b.txt"
    error_of(lambda: find_sources(config(files=[path], valid=[path])), path, "files and valid")
    error_of(lambda: find_sources(config(train=[path], test=[str(tmp_path)])), "train and test")
    try:
        linked.symlink_to(path)
    except OSError:
        pytest.skip("no symbolic links here")
    error_of(lambda: find_sources(config(train=[path], test=[str(linked)])), "train and test")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.txt")
    error_of(lambda: find_sources(config(files=[missing])), missing, "corpus.files")
    where = config(train=[missing], source="https://example.org")
    error_of(lambda: find_sources(where), "corpus.train", "https://example.org")
    (tmp_path / "empty").mkdir()
    error_of(lambda: find_sources(config(files=[str(tmp_path / "empty")])), "no text file", ".txt")
    error_of(lambda: find_sources(config(files=[f"{tmp_path}/*.nothing"])), "*.nothing")
    error_of(lambda: find_sources(config(files=["가" * 3000])), "corpus.files")
    path = write(tmp_path / "empty.txt", "")
    error_of(lambda: find_sources(config(files=[path])), path, "empty")


def test_a_folder_that_may_not_be_searched(tmp_path: Path) -> None:
    path = write(tmp_path / "closed" / "a.txt")
    (tmp_path / "closed").chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("this user may read any file, as root and on Windows")
        error_of(lambda: find_sources(config(files=[path])), "corpus.files", path)
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode here")
def test_a_file_name_that_is_no_utf8(tmp_path: Path) -> None:
    # Files that unpacking an old archive leaves behind.
    for number in range(2):
        name = os.fsencode(tmp_path) + "/글".encode("cp949") + b"%d.txt" % number
        Path(os.fsdecode(name)).write_text("가\n", encoding="utf-8")
    names = names_of(config(files=[str(tmp_path)]))
    assert len(set(names)) == 2
    assert all(name.encode("utf-8") for name in names)


def test_a_folder_of_json_reports_files_that_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    texts = ["a.json", "b.ndjson", "c.json.xz", "d.txt.bz2"]
    for name in texts:
        write(tmp_path / name)
    assert names_of(config(files=[str(tmp_path)])) == texts and caplog.text == ""
    for name in ("e.md", "f.md", "g.tar.gz", ".hidden"):
        write(tmp_path / name)
    names_of(config(files=[str(tmp_path)]))
    assert "with other endings, which are not read: 3 (2 .md, 1 .tar.gz)" in caplog.text


# Lines


TEXTS = {
    "plain": "가\n나\n\n다\n",
    "leading": "\n\n \n가\n\n나\n",
    "trailing": "가\n\n\n\t\n",
    "no_final_end": "가\n\n나",
    "crlf": "가\r\n\r\n나\r\n",
    "blanks": "가\n\u3000\n나\n\x0c\n다",
    "odd": "\x0b가\u2028\r나\n\n\n\n라\x85",
}


@pytest.mark.parametrize("mode", DocumentUnit)
@pytest.mark.parametrize("name", TEXTS)
def test_no_line_is_lost(tmp_path: Path, mode: DocumentUnit, name: str) -> None:
    path = write(tmp_path / f"{name}.txt", TEXTS[name])
    lines = lines_of(config(files=[path], document_unit=mode))
    assert [line.text for line in lines] == list(read_lines(Path(path)))


@pytest.mark.parametrize("mode", DocumentUnit)
@pytest.mark.parametrize("given", [True, False])
def test_no_line_is_lost_in_random_text(tmp_path: Path, mode: DocumentUnit, given: bool) -> None:
    rng = random.Random(5)
    choices = ["", "", " ", "가", "나 다", "x" * 3000]
    texts = [[f"글 {number}", *rng.choices(choices, k=rng.randint(1, 30))] for number in range(60)]
    paths = [
        write(tmp_path / f"{number:03}.txt", "\n".join(text) + "\n")
        for number, text in enumerate(texts)
    ]
    settings = config(document_unit=mode, **{"train" if given else "files": paths})
    lines = lines_of(settings)
    assert [line.text for line in lines] == list(itertools.chain(*texts))
    splits = defaultdict(set)
    numbers = defaultdict(list)
    for line in lines:
        splits[line.doc_id].add(line.split)
        numbers[line.doc_id].append(line.line)
    assert all(len(result) == 1 for result in splits.values())
    assert {split for result in splits.values() for split in result} == (
        {"train"} if given else {"train", "valid", "test"}
    )
    assert all(result == list(range(1, len(result) + 1)) for result in numbers.values())


def documents_of(settings: CorpusConfig) -> dict[str, list[str]]:
    documents = defaultdict(list)
    for line in lines_of(settings):
        documents[line.doc_id].append(line.text)
    return dict(documents)


def splits_by_text(lines: list[Line]) -> dict[str, list[str]]:
    """Return the splits of all lines of each text."""
    splits = defaultdict(list)
    for line in lines:
        splits[line.text].append(line.split)
    return splits


def test_documents_of_a_text_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\n가\n나\n\n \n다\n\n라\n\n")
    assert documents_of(config(files=[path], document_unit=DocumentUnit.blank_line)) == {
        "a.txt#1": ["", "가", "나", "", " "],
        "a.txt#2": ["다", ""],
        "a.txt#3": ["라", ""],
    }
    assert list(documents_of(config(files=[path]))) == ["a.txt"]
    by_line = documents_of(config(files=[path], document_unit=DocumentUnit.line))
    assert by_line["a.txt#2"] == ["가"] and len(by_line) == 9


def test_documents_of_a_table(tmp_path: Path) -> None:
    rows = [("가\n나", "x"), ("다", "y"), ("", "x"), ("라", ""), ("마", "x")]
    objects = [json.dumps({"text": text, "by": by}) for text, by in rows]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([("text", "by"), *rows])
    for name, content in (("t.jsonl", "\n".join(objects)), ("t.csv", stream.getvalue())):
        path = write(tmp_path / name, content)
        named = documents_of(config(files=[path], document_column="by"))
        assert named == {
            f"{name}#x": ["가", "나", "", "마"],
            f"{name}#y": ["다"],
            f"{name}#4": ["라"],
        }
        lines = lines_of(config(files=[path], document_column="by"))
        assert [line.line for line in lines if line.doc_id == f"{name}#x"] == [1, 2, 3, 4]
        unnamed = documents_of(config(files=[path]))
        assert list(unnamed) == [f"{name}#{number}" for number in range(1, 6)]
        assert list(unnamed.values()) == [["가", "나"], ["다"], [""], ["라"], ["마"]]


def test_rows_of_one_document_stay_together(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [(f"글 {number}", f"author{rng.randrange(200)}") for number in range(2000)]
    path = write(tmp_path / "t.tsv", "".join(f"{text}\t{by}\n" for text, by in rows))
    lines = lines_of(config(files=[path], text_column="1", document_column="2"))
    splits = defaultdict(set)
    for line, (text, by) in zip(lines, rows, strict=True):
        assert line.text == text
        splits[by].add(line.split)
    assert all(len(result) == 1 for result in splits.values())
    assert {"train", "valid", "test"} == set().union(*splits.values())


@pytest.mark.parametrize("mode", DocumentUnit)
def test_a_file_of_blank_lines(tmp_path: Path, mode: DocumentUnit) -> None:
    good = write(tmp_path / "a.txt", "가\n")
    bad = write(tmp_path / "b.txt", " \n\t\n\u3000\n\n")
    error_of(lambda: lines_of(config(files=[good, bad], document_unit=mode)), bad, "blank")
    table = write(tmp_path / "b.tsv", "text\n")
    error_of(lambda: lines_of(config(files=[table])), table, "blank")


def test_lines_are_read_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "KEY_CHARS", 10)
    long_file = write(tmp_path / "a.txt", "가나다\n" * 1000)
    settings = config(files=[long_file], document_unit=DocumentUnit.blank_line)
    taken = 0

    def counted(path: Path, *_: object) -> Any:
        nonlocal taken
        for block in read_blocks(path):
            taken += len(block)
            yield block

    monkeypatch.setattr(files, "BLOCK", 20)  # two lines
    monkeypatch.setattr(corpus_module, "read_blocks", counted)
    next(read_corpus(settings, find_sources(settings)))
    assert taken < 10  # only the beginning of the document


@pytest.mark.parametrize("name", ["a.txt", "글.TXT", "noending"])
def test_json_under_another_name_is_no_text(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, '[{"text": "가"}]')
    error_of(lambda: lines_of(config(files=[path])), path, "JSON", "corpus.format=json")
    for file_format, text in ((CorpusFormat.json, "가"), (CorpusFormat.txt, '[{"text": "가"}]')):
        (line,) = lines_of(config(files=[path], format=file_format))
        assert line.text == text


# Splits


def blocks_of(shares: dict[str, float], texts: list[str]) -> ContiguousSplit:
    sizes = [len(text) + 1 for text in texts if has_text(text)]
    return ContiguousSplit(shares, sum(sizes), len(sizes))


SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


@pytest.mark.parametrize("seed", range(30))
def test_blocks_are_contiguous_and_none_is_empty(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    num_lines = rng.choice([3, 3, 4, 5, 20, 200])
    texts = ["", *(rng.choice(["가", "나 다", "라" * 50, "\u200b"]) for _ in range(num_lines))]
    texts += rng.choices(["가", "나 다" * rng.choice([1, 900])], k=3)
    cut = rng.randrange(1, len(texts) + 1)
    paths = [
        write(tmp_path / f"{n}.txt", "\n".join(part) + "\n가")
        for n, part in enumerate((texts[:cut], texts[cut:]))
    ]
    sources = find_sources(config(files=paths))
    expected = [*texts[:cut], "가", *(texts[cut:] or [""]), "가"]
    blocks = blocks_of(SHARES, expected)
    lines = one_by_one(read_corpus(config(files=paths), sources, blocks=blocks))
    assert [line.text for line in lines] == expected
    splits = [line.split for line in lines]
    assert splits == sorted(splits, key=["train", "valid", "test"].index)
    for split in SHARES:
        assert any(line.split == split and has_text(line.text) for line in lines)
    # Lines are numbered within their documents, independent of the pieces.
    for n, size in enumerate((cut + 1, len(expected) - cut - 1)):
        numbers = [line.line for line in lines if line.doc_id == f"{n}.txt"]
        assert numbers == list(range(1, size + 1))


def test_blocks_have_about_their_shares(tmp_path: Path) -> None:
    texts = [f"줄 {number:04}" for number in range(1000)]
    path = write(tmp_path / "a.txt", "\n".join(texts))
    settings = config(files=[path])
    blocks = blocks_of({"train": 0.75, "valid": 0.2, "test": 0.05}, texts)
    lines = one_by_one(read_corpus(settings, find_sources(settings), None, blocks))
    assert Counter(line.split for line in lines) == {"train": 750, "valid": 200, "test": 50}


def test_blocks_leave_files_with_a_split_of_their_own_alone(tmp_path: Path) -> None:
    book = write(tmp_path / "a.txt", "가\n" * 10)
    other = write(tmp_path / "b.txt", "나\n" * 10)
    settings = config(files=[book], test=[other])
    blocks = blocks_of({"train": 0.5, "valid": 0.5}, ["가"] * 10)
    lines = one_by_one(read_corpus(settings, find_sources(settings), None, blocks))
    assert Counter((line.doc_id, line.split) for line in lines) == {
        ("a.txt", "train"): 5,
        ("a.txt", "valid"): 5,
        ("b.txt", "test"): 10,
    }


def test_split_of_pinned_keys() -> None:
    # BLAKE2b with a digest of 8 bytes, as a share of 2**64: must never change.
    # printf KEY | b2sum -l 64
    fractions = {
        "constitution.txt": 0.7784,
        "a.txt": 0.7854,
        "가": 0.2970,
        "kobill/1809890.txt": 0.1732,
        "z": 0.5166,
        "": 0.8932,
        "한글 문서": 0.2540,
    }
    for key, fraction in fractions.items():
        assert split_of(key, 0.0, fraction + 0.0001) == "test"
        assert split_of(key, 0.0, fraction - 0.0001) == "train"
        assert split_of(key, 0.05, fraction - 0.0001) == "valid"
        assert split_of(key, fraction - 0.0101, 0.01) == "train"
    assert split_of("kobill/1809890.txt", 0.1, 0.1) == "valid"


def test_fractions_of_splits_are_approximate(tmp_path: Path) -> None:
    text = "".join(f"문서 {number}\n" for number in range(2000))
    path = write(tmp_path / "a.txt", text)
    settings = config(
        files=[path], document_unit=DocumentUnit.line, valid_fraction=0.2, test_fraction=0.05
    )
    counts = Counter(line.split for line in lines_of(settings))
    # Three standard deviations of 2,000 draws: 54 and 29.
    assert abs(counts["valid"] - 400) < 54
    assert abs(counts["test"] - 100) < 29


def test_a_larger_test_share_takes_from_its_neighbour_only() -> None:
    keys = [str(number) for number in range(1000)]
    small = {key for key in keys if split_of(key, 0.1, 0.1) == "test"}
    large = {key for key in keys if split_of(key, 0.1, 0.2) == "test"}
    assert small < large
    assert {split_of(key, 0.1, 0.1) for key in large - small} == {"valid"}


@pytest.mark.parametrize("mode", [DocumentUnit.line, DocumentUnit.blank_line])
def test_equal_documents_go_to_the_same_split(tmp_path: Path, mode: DocumentUnit) -> None:
    rng = random.Random(2)
    end = "\n" if mode is DocumentUnit.line else "\n\n"
    texts = [f"글 {number}" + "\n둘째 줄" * (mode is not DocumentUnit.line) for number in range(80)]
    for number in range(5):
        rng.shuffle(texts)
        # Documents at the end of a file have no blank line after them, or several.
        write(tmp_path / f"{number}.txt", end.join(texts) + "\n" * number)
    lines = lines_of(config(files=[str(tmp_path)], document_unit=mode))
    splits = splits_by_text([line for line in lines if line.text.startswith("글")])
    assert len(splits) == 80
    assert all(len(set(result)) == 1 for result in splits.values())
    assert set().union(*splits.values()) == {"train", "valid", "test"}


def test_equal_texts_in_tables_and_files_go_to_the_same_split(tmp_path: Path) -> None:
    texts = [f"글 {number}" for number in range(100)]
    write(tmp_path / "a.txt", "\n".join(texts))
    write(tmp_path / "b.tsv", "text\n" + "\n".join(texts))
    write(tmp_path / "c.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    lines = lines_of(config(files=[str(tmp_path)], document_unit=DocumentUnit.line))
    for result in splits_by_text(lines).values():
        assert len(result) == 3 and len(set(result)) == 1


@pytest.mark.parametrize("mode", DocumentUnit)
def test_added_documents_move_no_old_one(tmp_path: Path, mode: DocumentUnit) -> None:
    folder = tmp_path / "texts"
    old = [f"옛 글 {number}" for number in range(100)]
    for number, text in enumerate(old):
        write(folder / f"old{number}.txt", f"{text}\n{text} 끝")
    settings = config(files=[f"{folder}/**/*.txt"], document_unit=mode)
    before = {line.text: line.split for line in lines_of(settings)}
    for number, text in enumerate(old):
        # Added to the end of the file, and as another file.
        if mode is not DocumentUnit.file:
            with open(folder / f"old{number}.txt", "a", encoding="utf-8") as file:
                file.write(f"\n\n새 글 {number}\n")
        write(folder / "0" / f"new{number}.txt", f"다른 {text}\n")
    after = {line.text: line.split for line in lines_of(settings)}
    assert before.items() < after.items()
    assert set(before.values()) == {"train", "valid", "test"}


def test_the_beginning_of_a_long_document_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "KEY_CHARS", 20)
    for number in range(30):
        write(tmp_path / f"{number}.txt", "가" * 19 + "\n나" + f" 끝 {number}\n")
    mixed = lines_of(config(files=[str(tmp_path)], document_unit=DocumentUnit.blank_line))
    assert len({line.split for line in mixed}) == 1
    monkeypatch.setattr(corpus_module, "KEY_CHARS", 40)
    longer = lines_of(config(files=[str(tmp_path)], document_unit=DocumentUnit.blank_line))
    assert len({line.split for line in longer}) > 1


def test_composed_and_decomposed_texts_agree(tmp_path: Path) -> None:
    text = "".join(f"한글 문서 {number}\n" for number in range(50))
    forms = {}
    for form in ("NFC", "NFD"):
        path = tmp_path / form / "a.txt"
        composed = write(path, unicodedata.normalize(form, text))
        settings = config(files=[composed], document_unit=DocumentUnit.line)
        forms[form] = lines_of(settings)
    assert [line.split for line in forms["NFC"]] == [line.split for line in forms["NFD"]]
    # Text is not changed.
    assert all(unicodedata.is_normalized("NFD", line.text) for line in forms["NFD"])
    assert [normalize(line.text) for line in forms["NFD"]] == [line.text for line in forms["NFC"]]


@pytest.mark.parametrize("ending", ["txt", "jsonl"])
def test_long_documents_agree_in_both_forms(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "KEY_CHARS", 10)
    splits = {}
    for form in ("NFC", "NFD"):
        lines = []
        for number in range(40):
            text = unicodedata.normalize(form, f"한 {number:03}\n글 {number}")
            path = write(tmp_path / form / f"{number}.{ending}", json.dumps({"text": text}))
            if ending == "txt":
                write(Path(path), text)
            lines += lines_of(config(files=[path], document_unit=DocumentUnit.blank_line))
        splits[form] = [line.split for line in lines]
    assert splits["NFC"] == splits["NFD"]
    assert set(splits["NFC"]) == {"train", "valid", "test"}


# Helpers


def test_inputs_come_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt"):
        Path(name).write_text(f"{name}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("가\n나".encode())))
    sources = find_inputs(["b.txt", "-", "?.txt"], "input")
    assert [source.name for source in sources] == ["b.txt", "stdin", "a.txt"]
    assert {source.split for source in sources} == {INPUT}
    parts = read_corpus(TextConfig(), sources)
    lines = [(part.document, text) for part in parts for text in part.texts]
    assert lines == [("b.txt", "b.txt"), ("stdin", "가"), ("stdin", "나"), ("a.txt", "a.txt")]
    with pytest.raises(CorpusError, match=r"^input: missing is neither a file"):
        find_inputs(["missing"], "input")


@pytest.mark.parametrize("separator", "\t,;|")
def test_a_table_from_standard_input_is_read_like_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    texts = ['가 "나"', f"다{separator}라", "마"]
    table = io.StringIO()
    csv.writer(table, delimiter=separator).writerows([("id", "text"), *enumerate(texts)])
    data = table.getvalue().encode()
    (tmp_path / "a.tsv").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    settings = TextConfig(format=CorpusFormat.tsv)
    for name in (str(tmp_path / "a.tsv"), "-"):
        parts = read_corpus(settings, find_inputs([name], "input"))
        assert [" ".join(part.texts) for part in parts] == texts


def test_standard_input_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, what in ((b"\0" * 50, "a binary file"), (b"\xb5", "line 1, byte 1")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(CorpusError, match=f"^<stdin>: .*{what}"):
            list(read_corpus(TextConfig(), find_inputs(["-"], "input")))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CorpusError, match="<stdin>: is closed"):
        list(read_corpus(TextConfig(), find_inputs(["-"], "input")))
