"""A journal gives back what was put in, and nothing else, wherever it was cut or damaged."""

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from korlm.dataset.journal import Journal
from korlm.tokenizers.analysis import Analysis, to_record_batch

BATCHES = [[f"줄 {number}", "", "끝" * number] for number in range(4)]


def analysed(texts: list[str]) -> pa.RecordBatch:
    return to_record_batch([Analysis([text], ["X"], [0], "ok", len(text), 0.5) for text in texts])


def write(path: Path, batches: list[list[str]]) -> list[int]:
    """A journal of these batches; gives its size after each."""
    journal, sizes = Journal(path), []
    for texts in batches:
        assert journal.read(texts) is None
        journal.append(texts, analysed(texts))
        sizes.append(path.stat().st_size)
    journal.close()
    return sizes


def good(path: Path, batches: list[list[str]] = BATCHES) -> int:
    """How many of the batches the journal knows; those it knows must be right."""
    journal = Journal(path)
    found = [journal.read(texts) for texts in batches]
    journal.close()
    known = [columns for columns in found if columns is not None]
    assert known == [analysed(texts) for texts in batches[: len(known)]]
    assert found == known + [None] * (len(found) - len(known))
    return len(known)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train-00000.journal"


def test_there_and_back(path: Path) -> None:
    write(path, BATCHES)
    assert good(path) == 4
    assert good(path) == 4  # reading changes nothing


def test_batches_without_lines(path: Path) -> None:
    batches: list[list[str]] = [["가"], []]
    write(path, batches)
    assert good(path, batches) == 2


def test_a_last_frame_cut_anywhere(path: Path) -> None:
    sizes = write(path, BATCHES)
    whole = path.read_bytes()
    for size in range(sizes[2], sizes[3]):
        path.write_bytes(whole[:size])
        assert good(path) == 3
        assert path.stat().st_size == sizes[2]  # the rest is gone
    # And it goes on from there to the same bytes.
    journal = Journal(path)
    assert all(journal.read(texts) is not None for texts in BATCHES[:3])
    assert journal.read(BATCHES[3]) is None
    journal.append(BATCHES[3], analysed(BATCHES[3]))
    journal.close()
    assert path.read_bytes() == whole


def test_a_byte_damaged_anywhere(path: Path) -> None:
    sizes = write(path, BATCHES)
    whole = path.read_bytes()
    for place in range(sizes[0], sizes[1]):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        assert good(path) == 1
        assert path.stat().st_size == sizes[0]


def test_other_text_is_never_taken_up(path: Path) -> None:
    write(path, BATCHES)
    assert good(path, [BATCHES[0], ["다른 글"], BATCHES[2], BATCHES[3]]) == 1
    path.unlink()
    write(path, BATCHES[:1])
    assert good(path, [["줄 0끝", ""], BATCHES[1]]) == 0  # the same letters, parted elsewhere


def test_something_else_under_its_name(path: Path) -> None:
    path.write_bytes(b"no journal at all, but long enough to look like one")
    assert good(path) == 0


def test_columns_of_another_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = pa.schema([("morphs", pa.list_(pa.string()))])
    with monkeypatch.context() as patch:
        patch.setattr("korlm.tokenizers.analysis.ANALYSIS", older)
        journal = Journal(path)
        assert journal.read(BATCHES[0]) is None
        journal.append(BATCHES[0], pa.record_batch([[["가"]]], schema=older))
        journal.close()
    assert good(path) == 0


class Full:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return int(written)

    def close(self) -> None:
        self.file.close()


def test_a_full_disk_leaves_a_journal_to_go_on_with(path: Path) -> None:
    sizes = write(path, BATCHES[:2])
    journal = Journal(path)
    assert all(journal.read(texts) is not None for texts in BATCHES[:2])
    assert journal.read(BATCHES[2]) is None
    journal._file = Full(journal._file, 50)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left"):
        journal.append(BATCHES[2], analysed(BATCHES[2]))
    journal.close()
    assert path.stat().st_size == sizes[1] + 50
    assert good(path) == 2


def test_it_ends_with_its_shard(path: Path) -> None:
    journal = Journal(path)
    assert journal.read(BATCHES[0]) is None
    journal.append(BATCHES[0], analysed(BATCHES[0]))
    journal.close(delete=True)
    assert not path.exists()
