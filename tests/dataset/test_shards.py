"""Token shards: their content, how lines are grouped, and that damage is detected."""

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import Line, one_by_one, packed
from korlm.dataset.storage.shard_writer import ShardWriter

from korlm.dataset import text_batches
from korlm.dataset.storage import shard_writer
from korlm.dataset.storage.shards import (
    ShardCounts,
    read_columns,
    read_counts,
    shard_path,
    shard_paths,
)
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.tokenizers.analysis import Analysis, to_record_batch
from korlm.tokenizers.whitespace import EojeolTokenizer
from korlm.utils.errors import PreparedError

EMPTY = Analysis([], [], [], "empty")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards and batches of a few characters."""
    monkeypatch.setattr(text_batches, "SHARD_CHARS", 40)
    monkeypatch.setattr(text_batches, "BATCH_CHARS", 10)


def lines_of(texts: list[str], split: str = "train") -> list[Line]:
    return [Line(split, "doc", number, text) for number, text in enumerate(texts, 1)]


def batches_of(lines: list[Line]) -> list[TextBatch]:
    return list(batch_lines(packed(lines)))


def chars(lines: list[Line]) -> int:
    return sum(len(line.text) + 1 for line in lines)


def write(folder: Path, lines: list[Line], analyses: list[Analysis] | None = None) -> Path:
    """One shard with these lines."""
    batch = TextBatch(lines[0].split if lines else "train", 0, True, list(packed(lines)))
    columns = (
        to_record_batch(analyses) if analyses else EojeolTokenizer().analyze_batch(batch.texts)
    )
    with ShardWriter(folder) as writer:
        writer.write(batch, columns)
    return shard_path(folder, batch.split, 0)


# The files


def test_schema_is_what_users_were_promised(tmp_path: Path) -> None:
    path = write(tmp_path, lines_of(["가 나"]))
    assert path == tmp_path / "train-00000.parquet"
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
    # Several row groups, so that memory need not hold a whole shard.
    monkeypatch.setattr(shard_writer, "ROW_GROUP_CHARS", 12)
    texts = [f"{number} 번째 줄" for number in range(20)]
    with ShardWriter(tmp_path) as writer:
        for number, text in enumerate(texts):
            batch = TextBatch("train", 0, number == 19, list(packed(lines_of([text]))))
            writer.write(batch, EojeolTokenizer().analyze_batch([text]))
    (path,) = shard_paths(tmp_path, "train")
    assert pq.read_metadata(path).num_row_groups > 5
    batches = list(read_columns(path, ["morphs", "text"]))
    assert [row for batch in batches for row in batch.to_pylist()] == [
        {"morphs": text.split(), "text": text} for text in texts
    ]
    assert read_counts(path).num_lines == 20


def test_a_shard_of_nothing_can_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, [])
    assert read_counts(path) == ShardCounts()
    assert [row for batch in read_columns(path, ["morphs"]) for row in batch.to_pylist()] == []


def test_a_shard_appears_when_it_is_whole(tmp_path: Path) -> None:
    one, two = (list(packed(lines_of([text], "test"))) for text in ("가", "나 다"))
    with ShardWriter(tmp_path) as writer:
        columns = to_record_batch([Analysis(["가"], [""], [0])])
        writer.write(TextBatch("test", 3, False, one), columns)
        assert list(tmp_path.glob("*.parquet")) == []
        writer.write(TextBatch("test", 3, True, []), to_record_batch([]))
        writer.write(TextBatch("test", 4, True, two), to_record_batch([EMPTY]))
        writer.write(TextBatch("test", 5, False, one), columns)  # never completed
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["test-00003.parquet", "test-00004.parquet"]
    assert [read_counts(tmp_path / name).num_lines for name in names] == [1, 1]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_row_group_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """The error of the background thread is raised, and no file is left."""
    monkeypatch.setattr(shard_writer, "ROW_GROUP_CHARS", 1)
    real, calls = pq.ParquetWriter.write_table, itertools.count()

    def fail(self: pq.ParquetWriter, *arguments: object, **settings: object) -> None:
        if next(calls) == bad:
            raise OSError("No space left on device")
        real(self, *arguments, **settings)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", fail)
    blocks, columns = list(packed(lines_of(["가 나"]))), EojeolTokenizer().analyze_batch(["가 나"])
    with pytest.raises(OSError, match="No space left"), ShardWriter(tmp_path) as writer:
        for number in range(3):
            writer.write(TextBatch("train", 0, number == 2, blocks), columns)
    assert list(tmp_path.iterdir()) == []


def test_shard_paths_in_order(tmp_path: Path) -> None:
    for number in (11, 2, 0):
        shard_path(tmp_path, "train", number).touch()
    shard_path(tmp_path, "valid", 1).touch()
    (tmp_path / "train-00005.tmp").touch()
    names = [path.name for path in shard_paths(tmp_path, "train")]
    assert names == ["train-00000.parquet", "train-00002.parquet", "train-00011.parquet"]
    assert shard_paths(tmp_path, "test") == []


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "middle", "missing", "foreign"])
def test_damaged_shards(tmp_path: Path, damage: str) -> None:
    dice = random.Random(1)
    texts = ["".join(dice.choices("가나다라마바사 ", k=40)) for _ in range(400)]
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
    if damage == "middle":  # the end of the file, where the counts stand, is as it was
        assert readers.pop(0)() == read_counts(path)
    if damage == "foreign":
        readers.pop()
    for read in readers:
        with pytest.raises(PreparedError) as caught:
            read()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# The batches


def test_batches_by_hand(small: None) -> None:
    # Ten characters with their line ends fill a batch, forty a shard.
    texts = ["123456789", "1234", "1234", "12345678901234567890", "1", "2"]
    batches = batches_of(lines_of(texts))
    assert [(b.texts, b.shard, b.is_last) for b in batches] == [
        (["123456789"], 0, False),
        (["1234", "1234"], 0, False),
        (["12345678901234567890"], 0, True),
        (["1", "2"], 1, True),
    ]


def test_text_that_ends_with_a_shard(small: None) -> None:
    batches = batches_of(lines_of(["123456789"] * 8))
    assert [(batch.shard, batch.is_last) for batch in batches] == [
        *[(0, False)] * 3,
        (0, True),
        *[(1, False)] * 3,
        (1, True),
    ]


def test_text_that_ends_with_a_batch(small: None) -> None:
    # The shard is still open: an empty batch closes it.
    batches = batches_of(lines_of(["123456789"] * 6))
    assert [(len(batch.texts), batch.shard, batch.is_last) for batch in batches] == [
        *[(1, 0, False)] * 3,
        (1, 0, True),
        *[(1, 1, False)] * 2,
        (0, 1, True),
    ]


def test_no_text_makes_no_batch(small: None) -> None:
    assert batches_of([]) == []


@pytest.mark.parametrize("seed", range(30))
def test_properties_of_batches(small: None, seed: int) -> None:
    dice = random.Random(seed)
    splits = ["train", "valid", "test"][: dice.randint(1, 3)]
    lines = [
        Line(dice.choice(splits), "doc", number, "x" * dice.choice([0, 1, 4, 9, 30, 100]))
        for number in range(dice.randrange(150))
    ]
    batches = batches_of(lines)
    assert batches == batches_of(lines)
    for split in splits:
        mine = [batch for batch in batches if batch.split == split]
        given = [line for line in lines if line.split == split]
        assert [line for batch in mine for line in one_by_one(batch.blocks)] == given
        numbers = [batch.shard for batch in mine]
        assert sorted(set(numbers)) == list(range(len(set(numbers))))
        for number, group in itertools.groupby(mine, key=lambda batch: batch.shard):
            shard = list(group)
            assert [batch.is_last for batch in shard] == [False] * (len(shard) - 1) + [True]
            size = sum(batch.num_chars for batch in shard)
            assert size > 0
            # Only the last shard of a split may be small; a batch ends with the line that fills it.
            assert size >= 40 or number == max(numbers)
            for batch in shard:
                assert batch.num_chars == chars(one_by_one(batch.blocks))
                assert batch.num_chars >= 10 or batch is mine[-1]
                assert chars(one_by_one(batch.blocks)[:-1]) < 10
    assert {line.split for line in lines} == {batch.split for batch in batches}


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_comes_back(small: None, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    lines = [
        Line(dice.choice(["train", "valid"]), "doc", number, " ".join("가나" * dice.randrange(9)))
        for number in range(200)
    ]
    with ShardWriter(tmp_path) as writer:
        for batch in batches_of(lines):
            writer.write(batch, EojeolTokenizer().analyze_batch(batch.texts))
    for split in ("train", "valid"):
        paths = shard_paths(tmp_path, split)
        assert len(paths) > 3
        rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
        given = [line for line in lines if line.split == split]
        assert [(row["line"], row["text"]) for row in rows] == [(x.line, x.text) for x in given]
        assert [row["morphs"] for row in rows] == [line.text.split() for line in given]
        total = ShardCounts()
        for path in paths:
            total.add(read_counts(path))
        assert total.num_lines == len(given)
        assert total.num_morphs == sum(len(line.text.split()) for line in given)
    assert not list(tmp_path.glob("*.tmp"))
