"""Zip archives are read like folders."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from korlm.config import CorpusConfig
from korlm.corpus import archives
from korlm.corpus.archives import file_version, members_of, open_file
from korlm.corpus.pieces import Piece, digest_of
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import find_sources
from korlm.utils.errors import CorpusError
from korlm.utils.io.urls import to_path


def make(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def lines_of(config: CorpusConfig) -> dict[str, list[str]]:
    blocks = read_corpus(config, find_sources(config))
    return {block.document: block.texts for block in blocks}


MEMBERS = {
    "뉴스/b.txt": "둘\n",
    "뉴스/a.txt": "하나\n셋\n",
    "rows.jsonl": '{"text": "넷"}\n',
    "readme.pdf": "no text",
    "__MACOSX/._a.txt": "hidden",
}


def test_an_archive_equals_its_folder(tmp_path: Path) -> None:
    archive = make(tmp_path / "all.zip", MEMBERS)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "all")
    (tmp_path / "all" / "__MACOSX" / "._a.txt").unlink()
    packed = lines_of(CorpusConfig(name="c", train=[str(archive)]))
    folder = lines_of(CorpusConfig(name="c", train=[str(tmp_path / "all")]))
    assert packed == {f"all.zip/{doc_id}": texts for doc_id, texts in folder.items()}
    assert list(packed) == ["all.zip/rows.jsonl#1", "all.zip/뉴스/a.txt", "all.zip/뉴스/b.txt"]


def test_archives_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "texts" / "old").mkdir(parents=True)
    make(tmp_path / "texts" / "old" / "one.ZIP", {"a.txt": "하나\n"})
    (tmp_path / "texts" / "b.txt").write_text("둘\n", encoding="utf-8")
    config = CorpusConfig(name="c", train=[str(tmp_path / "texts")])
    assert list(lines_of(config)) == ["b.txt", "old/one.ZIP/a.txt"]
    one = CorpusConfig(name="c", train=[str(tmp_path / "texts" / "old" / "one.ZIP" / "a.txt")])
    assert lines_of(one) == {"a.txt": ["하나"]}


def test_a_folder_of_an_archive(tmp_path: Path) -> None:
    archive = make(tmp_path / "all.zip", {"train/a.txt": "하나\n", "valid/b.txt": "둘\n"})
    config = CorpusConfig(name="c", train=[f"{archive}/train"], valid=[f"{archive}/valid/b.txt"])
    assert lines_of(config) == {"a.txt": ["하나"], "b.txt": ["둘"]}


def test_names_that_are_not_normalized(tmp_path: Path) -> None:
    archive = make(tmp_path / "all.zip", {"./a.txt": "하나\n", "x//b.txt": "둘\n"})
    config = CorpusConfig(name="c", train=[str(archive)])
    assert lines_of(config) == {"all.zip/a.txt": ["하나"], "all.zip/x/b.txt": ["둘"]}


@pytest.mark.parametrize("name", ["/b.txt", "../b.txt", "x/../b.txt"])
def test_names_that_lead_out_of_the_archive(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / "all.zip", {"a.txt": "하나\n", name: "둘\n"})
    config = CorpusConfig(name="c", train=[str(archive)])
    with pytest.raises(CorpusError, match=rf"all.zip: the names of 1 of .*such as {name}; unpack"):
        lines_of(config)


def test_size_and_digest_are_those_of_the_member(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"a.txt": "하나\n"})
    plain = tmp_path / "plain.txt"
    plain.write_text("하나\n", encoding="utf-8")
    (member,) = members_of(archive)
    assert file_version(member)[0] == plain.stat().st_size == 7
    config = CorpusConfig(name="c", train=[str(plain), str(archive)])
    digests = [digest_of(config, Piece(0, (source,))) for source in find_sources(config)]
    assert digests[0] == digests[1]
    make(archive, {"a.txt": "바뀐 글\n"})  # a changed archive is read again
    with open_file(member) as file:
        assert file.read().decode() == "바뀐 글\n"


@pytest.mark.parametrize("name", ["뉴스", "말뭉치", "원시말뭉치"])
@pytest.mark.parametrize("encoding", ["cp949", "utf-8"], ids=["korean_windows", "macos"])
def test_names_without_the_flag_of_utf8(encoding: str, name: str, tmp_path: Path) -> None:
    written = name.encode(encoding)
    path = make(tmp_path / "a.zip", {f"{'x' * len(written)}.txt": "하나\n"})
    path.write_bytes(path.read_bytes().replace(b"x" * len(written), written))
    assert [member.name for member in members_of(path)] == [f"{name}.txt"]


def test_unreadable_archives(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"PK\x03\x04 no archive")
    misnamed = make(tmp_path / "misnamed.zip", {"가.txt": "하나\n"})
    misnamed.write_bytes(misnamed.read_bytes().replace("가".encode(), b"\xff\xb0\x80"))
    without_text = make(tmp_path / "without.zip", {"a.pdf": "x"})
    encrypted = make(tmp_path / "secret.zip", {"a.txt": "하나\n"})
    data = bytearray(encrypted.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # flag of encryption in the directory ...
    data[data.index(b"PK\x03\x04") + 6] |= 1  # ... and before the data
    encrypted.write_bytes(bytes(data))
    cut = make(tmp_path / "cut.zip", {"a.txt": "하나\n" * 9999})
    data = bytearray(cut.read_bytes())
    data[60:70] = bytes(10)
    cut.write_bytes(bytes(data))
    for path, expected in (
        (damaged, "not a zip archive that can be read"),
        (misnamed, "not a zip archive that can be read"),
        (without_text, "holds no text file"),
        (encrypted, "unpack the archive first"),
        (cut, "cannot be read"),
        (without_text / "b.txt", "neither a file, a folder nor a glob"),
    ):
        with pytest.raises(CorpusError, match=expected):
            lines_of(CorpusConfig(name="c", train=[str(path)]))


@pytest.mark.parametrize(
    ("folder", "expected"),
    [(None, r"a\.zip: may not be read; change its permissions"), ("memory://zips", "access is")],
)
def test_an_archive_that_may_not_be_read(
    folder: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = to_path(f"{folder or tmp_path}/a.zip", CorpusError)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PK")
    monkeypatch.setattr(archives.zipfile, "ZipFile", refuse)  # root may read any file
    with pytest.raises(CorpusError, match=expected):
        find_sources(CorpusConfig(name="c", train=[str(path)]))
