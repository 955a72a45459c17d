"""Token shards: their content, how lines are grouped, and that damage is detected."""

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import Line, one_by_one, packed
from one_line import error_of

from korlm.dataset import text_batches
from korlm.dataset.storage import piece_writer
from korlm.dataset.storage.piece_files import read_record
from korlm.dataset.storage.piece_writer import PieceWriter
from korlm.dataset.storage.shards import ShardCounts, read_columns, read_counts, shard_paths
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import to_record_batch
from korlm.tokenizers.text_units import EojeolTokenizer
from korlm.utils.errors import PreparedError

EMPTY = Analysis([], [], [], "empty")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use batches of a few characters."""
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 10)


def lines_of(texts: list[str], split: str = "train") -> list[Line]:
    return [Line(split, "doc", number, text) for number, text in enumerate(texts, 1)]


def batches_of(lines: list[Line]) -> list[TextBatch]:
    return list(batch_lines(packed(lines)))


def chars(lines: list[Line]) -> int:
    return sum(len(line.text) + 1 for line in lines)


def write(folder: Path, lines: list[Line], analyses: list[Analysis] | None = None) -> Path:
    """Write one shard with these lines."""
    batch = TextBatch(lines[0].split, list(packed(lines)))
    columns = (
        to_record_batch(analyses) if analyses else EojeolTokenizer().analyze_batch(batch.texts)
    )
    with PieceWriter(folder, 0) as writer:
        writer.write(batch, columns)
        writer.finish("key")
    return folder / "tokens" / f"{batch.split}-00000.parquet"


# The files


def test_schema_is_the_documented_one(tmp_path: Path) -> None:
    path = write(tmp_path, lines_of(["가 나"]))
    assert path == tmp_path / "tokens" / "train-00000.parquet"
    kinds = {
        field.name: ["list", str(field.type.value_type)]
        if pa.types.is_list(field.type)
        else str(field.type)
        for field in pq.read_schema(path)
    }
    assert kinds == {
        "doc_id": "string",
        "line": "int64",
        "text": "string",
        "morphs": ["list", "string"],
        "tags": ["list", "string"],
        "eojeol": ["list", "int32"],
        "status": "string",
    }


def test_opens_with_plain_pyarrow_and_gives_the_text_back(tmp_path: Path) -> None:
    texts = ["가 나", "", " \t", "\0\x01", "e\u0301 \u1112\u1161\u11ab", "😀\r", "\u2028"]
    lines = [Line("valid", f"글/{n}", n, text) for n, text in enumerate(texts, 1)]
    path = write(tmp_path, lines)
    rows = pq.read_table(path).to_pylist()
    assert [row["text"] for row in rows] == texts
    assert [(row["doc_id"], row["line"]) for row in rows] == [(f"글/{n}", n) for n in range(1, 8)]
    assert rows[0] == {
        "doc_id": "글/1",
        "line": 1,
        "text": "가 나",
        "morphs": ["가", "나"],
        "tags": ["", ""],
        "eojeol": [0, 1],
        "status": "ok",
    }
    assert (rows[1]["morphs"], rows[1]["status"]) == ([], "empty")


def test_counts_by_hand(tmp_path: Path) -> None:
    lines = lines_of(["나는 간다.", "", "\u1112\u1161\u11ab 글", " \t ", "크ㅋㅋ!! "])
    analyses = [
        Analysis(["나", "는", "가", "ㄴ다", "."], ["a"] * 5, [0, 0, 1, 1, 1]),
        EMPTY,
        Analysis(["한", "글"], ["a"] * 2, [0, 1]),
        EMPTY,
        Analysis(["크ㅋㅋ!!"], ["UN"], [0], "fallback: JException", 2, 1.5),
    ]
    counts = read_counts(write(tmp_path, lines, analyses))
    assert counts == ShardCounts(
        num_lines=5,
        num_sentences=3,
        num_morphs=8,
        num_eojeol=2 + 2 + 1,
        num_chars=(6 + 1) + (3 + 1) + (6 + 1),  # 한 is one character, as NFC has it
        status={"ok": 2, "empty": 2, "fallback: JException": 1},
        num_dropped=2,
    )
    assert counts.num_tokens == 8 + 3


def test_counts_add_up() -> None:
    one = ShardCounts(1, 2, 3, 4, 5, {"ok": 2, "empty": 1}, 6)
    one.add(ShardCounts(10, 20, 30, 40, 50, {"ok": 3, "fallback: x": 1}, 60))
    assert one == ShardCounts(11, 22, 33, 44, 55, {"empty": 1, "fallback: x": 1, "ok": 5}, 66)


def test_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several row groups, so that a whole shard need not fit into memory.
    monkeypatch.setattr(piece_writer, "ROW_GROUP_CHARS", 12)
    texts = [f"{number} 번째 줄" for number in range(40)]
    with PieceWriter(tmp_path, 0) as writer:
        for number, text in enumerate(texts):  # the splits alternate
            split = ("train", "valid")[number % 2]
            batch = TextBatch(split, list(packed(lines_of([text], split))))
            writer.write(batch, EojeolTokenizer().analyze_batch([text]))
        writer.finish("key")
    for number, split in enumerate(("train", "valid")):
        (path,) = shard_paths(tmp_path / "tokens", split)
        assert pq.read_metadata(path).num_row_groups > 5
        batches = list(read_columns(path, ["morphs", "text"]))
        assert [row for batch in batches for row in batch.to_pylist()] == [
            {"morphs": text.split(), "text": text} for text in texts[number::2]
        ]
        assert (read_counts(path).num_lines, read_counts(path).num_morphs) == (20, 60)


def test_files_appear_when_the_piece_is_complete(tmp_path: Path) -> None:
    one, two = (list(packed(lines_of([text], "test"))) for text in ("가", "나 다"))
    columns = to_record_batch([Analysis(["가"], [""], [0], "cut")])
    with PieceWriter(tmp_path, 3) as writer:
        writer.write(TextBatch("test", one), columns)
        writer.write(TextBatch("valid", one), columns)
        assert all("/." in name for name in files_in(tmp_path))
        writer.write(TextBatch("test", two), to_record_batch([EMPTY]))
        record = writer.finish("key")
    with PieceWriter(tmp_path, 4) as writer:
        writer.write(TextBatch("test", one), columns)  # never completed
    names = [f"{kind}-00003" for kind in ("reports/test", "reports/valid")]
    shards = [f"tokens/{split}-00003.parquet" for split in ("test", "valid")]
    assert files_in(tmp_path) == ["pieces/00003.json", *(f"{n}.jsonl" for n in names), *shards]
    assert record == read_record(tmp_path, 3) and read_record(tmp_path, 4) is None
    assert {n: c.num_lines for n, c in record.splits.items()} == {"test": 2, "valid": 1}
    assert sorted(n.replace("#", "00003") for n in record.files) == files_in(tmp_path)[1:]


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_row_group_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """The error of the background thread is raised, and no file is left."""
    monkeypatch.setattr(piece_writer, "ROW_GROUP_CHARS", 1)
    real, calls = pq.ParquetWriter.write_table, itertools.count()

    def fail(self: pq.ParquetWriter, *arguments: object, **settings: object) -> None:
        if next(calls) == bad:
            raise OSError("No space left on device")
        real(self, *arguments, **settings)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    blocks, columns = list(packed(lines_of(["가 나"]))), EojeolTokenizer().analyze_batch(["가 나"])
    with pytest.raises(OSError, match="No space left"), PieceWriter(tmp_path, 0) as writer:
        for _ in range(3):
            writer.write(TextBatch("train", blocks), columns)
        writer.finish("key")
    assert files_in(tmp_path) == []


def test_shard_paths_in_order(tmp_path: Path) -> None:
    for number in (11, 2, 0):
        (tmp_path / f"train-{number:05d}.parquet").touch()
    (tmp_path / "valid-00001.parquet").touch()
    (tmp_path / ".train-00005.parquet.abc").touch()
    names = [path.name for path in shard_paths(tmp_path, "train")]
    assert names == ["train-00000.parquet", "train-00002.parquet", "train-00011.parquet"]
    assert shard_paths(tmp_path, "test") == []
    for number in (100_000, 99_999):
        (tmp_path / f"valid-{number:05d}.parquet").touch()
    names = [path.name for path in shard_paths(tmp_path, "valid")]
    assert names == ["valid-00001.parquet", "valid-99999.parquet", "valid-100000.parquet"]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "middle", "missing", "foreign"])
def test_damaged_shards(tmp_path: Path, damage: str) -> None:
    rng = random.Random(1)
    texts = ["".join(rng.choices("가나다라마바사 ", k=40)) for _ in range(400)]
    path = write(tmp_path, lines_of(texts))
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        pq.write_table(pa.table({"morphs": [["가"]]}), path)
    else:
        middle = whole[: len(whole) // 4] + b"\xff" * 2000 + whole[len(whole) // 4 + 2000 :]
        content = {"empty": b"", "cut": whole[:-100], "text": b"no Parquet\n", "middle": middle}
        path.write_bytes(content[damage])
    readers = [lambda: read_counts(path), lambda: list(read_columns(path, ["text", "morphs"]))]
    if damage == "middle":  # the end of the file, which has the counts, is intact
        assert readers.pop(0)() == read_counts(path)
    if damage == "foreign":
        readers.pop()
    for read in readers:
        error_of(read, str(path), kind=PreparedError)


# The batches


def test_batches_by_hand(small: None) -> None:
    # Ten characters, line ends included, fill a batch.
    texts = ["123456789", "1234", "1234", "12345678901234567890", "1", "2"]
    assert [batch.texts for batch in batches_of(lines_of(texts))] == [
        ["123456789"],
        ["1234", "1234"],
        ["12345678901234567890"],
        ["1", "2"],
    ]


def test_no_text_makes_no_batch(small: None) -> None:
    assert batches_of([]) == []


@pytest.mark.parametrize("seed", range(30))
def test_properties_of_batches(small: None, seed: int) -> None:
    rng = random.Random(seed)
    splits = ["train", "valid", "test"][: rng.randint(1, 3)]
    lines = [
        Line(rng.choice(splits), "doc", number, "x" * rng.choice([0, 1, 4, 9, 30, 100]))
        for number in range(rng.randrange(150))
    ]
    batches = batches_of(lines)
    assert batches == batches_of(lines)
    for split in splits:
        mine = [batch for batch in batches if batch.split == split]
        given = [line for line in lines if line.split == split]
        assert [line for batch in mine for line in one_by_one(batch.blocks)] == given
        for batch in mine:  # a batch ends with the line that reaches its size
            assert batch.num_chars == chars(one_by_one(batch.blocks))
            assert batch.num_chars >= 10 or batch is mine[-1]
            assert chars(one_by_one(batch.blocks)[:-1]) < 10
    assert {line.split for line in lines} == {batch.split for batch in batches}
