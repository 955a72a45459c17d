"""Names of the files of a tokenized piece, and the record that marks them as complete.

The names of the files contain the number of the piece. A record has ``#`` in its place: the same
text may be a piece of another number in a corpus that has grown.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.dataset.storage.shards import ShardCounts
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.urls import copy_file, is_url

SHARD = "tokens/{split}-#.parquet"
REPORT = "reports/{split}-#.jsonl"
TOKEN_COUNTS = "counts/#.parquet"  # of train
IDS = "ids/{split}-#.npy"
_RECORD = "pieces/#.json"


@dataclass(frozen=True)
class PieceRecord:
    """A piece whose files are complete."""

    key: str  # hash of all that decides the files
    splits: dict[str, ShardCounts]
    files: dict[str, str]  # name -> checksum

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> PieceRecord:
        """Return a record that was stored as ``dataclasses.asdict``.

        Raises:
            TypeError, ValueError, KeyError: the values are not those of a record.
        """
        splits = {split: ShardCounts(**counts) for split, counts in values["splits"].items()}
        return cls(values["key"], splits, dict(values["files"]))


@dataclass(frozen=True)
class TokenizedPieces:
    """All pieces of a corpus, tokenized; the folder of their files may be a URL."""

    folder: Path
    records: list[PieceRecord]

    def counts(self, split: str | None = None) -> ShardCounts:
        """Return the counts of a split, or of all."""
        total = ShardCounts()
        for record in self.records:
            for name, counts in record.splits.items():
                if split in (name, None):
                    total.add(counts)
        return total


def piece_path(folder: Path, name: str, number: int) -> Path:
    """Return the path of a file of a piece."""
    return folder / name.replace("#", f"{number:05d}")


def write_record(folder: Path, number: int, record: PieceRecord) -> None:
    """Mark a piece as complete."""
    with atomic_write(piece_path(folder, _RECORD, number), shared=True) as path:
        path.write_text(json.dumps(dataclasses.asdict(record)), encoding="utf-8")


def read_record(folder: Path, number: int) -> PieceRecord | None:
    """Return the record of a complete piece, None if there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        values = json.loads(piece_path(folder, _RECORD, number).read_text(encoding="utf-8"))
        return PieceRecord.from_json(values)
    return None


@dataclass(frozen=True)
class EarlierPiece:
    """A piece of a prepared corpus; the folder of its files may be a URL."""

    folder: Path
    number: int
    record: PieceRecord


def link_piece(piece: EarlierPiece, folder: Path, number: int) -> bool:
    """Link the files of a piece and complete it; return False if one of them is damaged."""
    try:
        for name, crc32 in piece.record.files.items():
            # A store verifies its files itself.
            if (
                not is_url(piece.folder)
                and checksums.crc32(piece_path(piece.folder, name, piece.number)) != crc32
            ):
                return False
        link_files(piece, folder, number)
    except FileNotFoundError:
        return False
    write_record(folder, number, piece.record)
    return True


def link_files(piece: EarlierPiece, folder: Path, number: int) -> None:
    """Link the files of a piece into another folder, under another number."""
    for name in piece.record.files:
        link(piece_path(piece.folder, name, piece.number), piece_path(folder, name, number))


def link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where the file system has none."""
    if is_url(source) or is_url(target):
        copy_file(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
