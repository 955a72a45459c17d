"""The pieces of a corpus, read one by one, hold the lines that the corpus read at once does."""

from pathlib import Path
from typing import Any

import pytest
from fakes import one_by_one

from korlm.config import CorpusConfig
from korlm.corpus.pieces import PieceStart, plan_pieces
from korlm.corpus.reader import read_corpus, read_piece
from korlm.corpus.scan import scan_piece, starts_of
from korlm.corpus.sources import find_sources
from korlm.corpus.validation import validate_corpus
from korlm.utils.errors import CorpusError


def config(folder: Path, **settings: Any) -> CorpusConfig:
    return CorpusConfig(name="test", files=[str(folder)], **settings)


def write(folder: Path, **texts: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_bytes(text.encode())


def check_pieces(settings: CorpusConfig, piece_bytes: int) -> int:
    """Compare the lines of the pieces with those of the corpus; return the number of pieces."""
    sources = find_sources(settings)
    pieces = plan_pieces(settings, sources, piece_bytes)
    scans = [scan_piece(settings, piece) for piece in pieces]
    num_chars, blocks = validate_corpus(settings, pieces, scans)
    starts = starts_of(settings, pieces, scans, blocks)
    expected = one_by_one(read_corpus(settings, sources, blocks=blocks))
    lines = [
        line
        for piece, start, scan in zip(pieces, starts, scans, strict=True)
        for line in one_by_one(read_piece(settings, piece, start, blocks, scan.digest))
    ]
    assert lines == expected
    assert num_chars == sum(len(line.text) + 1 for line in lines)
    return len(pieces)


def test_small_files_are_grouped(tmp_path: Path) -> None:
    write(tmp_path, **{f"{n:02}_txt": "가\n" * n for n in range(1, 12)})
    settings = config(tmp_path)
    pieces = plan_pieces(settings, find_sources(settings), 60)
    assert [piece.number for piece in pieces] == list(range(len(pieces)))
    assert [len(piece.sources) for piece in pieces] == [5, 2, 1, 1, 1, 1]
    assert check_pieces(settings, 60) == 6
    # Added files change the last group only.
    write(tmp_path, **{"12_txt": "가\n"})
    assert plan_pieces(settings, find_sources(settings), 60)[:5] == pieces[:5]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, a_txt="가\n")
    settings = config(tmp_path)
    (piece,) = plan_pieces(settings, find_sources(settings), 60)
    digest = scan_piece(settings, piece).digest
    write(tmp_path, a_txt="나\n")
    with pytest.raises(CorpusError, match=r"a\.txt: has changed while it was read"):
        list(read_piece(settings, piece, PieceStart(), digest=digest))


def test_an_error_in_the_text_is_part_of_the_scan(tmp_path: Path) -> None:
    write(tmp_path, a_txt="가\n", b_txt=" \n")
    settings = config(tmp_path)
    pieces = plan_pieces(settings, find_sources(settings), 1)
    scans = [scan_piece(settings, piece) for piece in pieces]
    assert [bool(scan.error) for scan in scans] == [False, True]
    with pytest.raises(CorpusError, match=r"b\.txt: holds nothing but blank lines"):
        validate_corpus(settings, pieces, scans)
