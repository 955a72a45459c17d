"""Behind the cache come the same results as without it, and no line reaches a tokenizer twice."""

import collections
import itertools
import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from fakes import install_fake_kkma

from korlm.config import Engine, KkmaConfig
from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import ANALYSIS, EMPTY, Analysis, analyses_of, to_record_batch
from korlm.tokenizers.workers.line_cache import LineCache, map_cached
from korlm.tokenizers.workers.pool import Task, TokenizerPool

SPACE_SYMBOL = ["", " ", "\t\u3000", "\0", "\x1c \x85"]


def fake(text: str) -> Analysis:
    """What the fake pool makes of a line, which may name its own status in angle brackets."""
    if is_blank(text):
        return EMPTY
    units = text.split()
    status = text.partition("<")[2].rstrip(">") or "ok"
    return Analysis(units, ["N"] * len(units), list(range(len(units))), status, len(text), 2.0)


class FakePool:
    """A pool that notes what it is asked; asks for some batches more than it has given.

    Args:
        ahead: how many.
    """

    def __init__(self, ahead: int = 0) -> None:
        self.ahead = ahead
        self.sent: list[list[str]] = []
        self.passed: list[pa.RecordBatch] = []

    def map(self, batches: Iterable[Task]) -> Iterator[pa.RecordBatch]:
        left = iter(batches)
        held: collections.deque[Task] = collections.deque()
        while True:
            held.extend(itertools.islice(left, 1 + self.ahead - len(held)))
            if not held:
                return
            batch = held.popleft()
            if isinstance(batch, pa.RecordBatch):
                self.passed.append(batch)
                yield batch
            else:
                self.sent.append(list(batch))
                yield to_record_batch([fake(text) for text in batch])

    @property
    def lines(self) -> list[str]:
        return [text for batch in self.sent for text in batch]


def mapped(
    pool: FakePool | TokenizerPool, cache: LineCache, batches: Iterable[Task]
) -> Iterator[pa.RecordBatch]:
    return map_cached(cast(TokenizerPool, pool), cache, batches)


def plain(columns: pa.RecordBatch) -> list[Analysis]:
    """The lines of a batch but for their time, which the cache does not keep."""
    assert columns.validate(full=True) is None
    return [analysis._replace(seconds=0.0) for analysis in analyses_of(columns)]


def through(
    folder: Path, batches: Sequence[Task], version: str = "1"
) -> tuple[FakePool, list[list[Analysis]]]:
    """One run with a pool and a cache of its own."""
    pool = FakePool()
    with LineCache(folder, version, 100) as cache:
        return pool, [plain(columns) for columns in mapped(pool, cache, batches)]


def expected(batches: Iterable[Task]) -> list[list[Analysis]]:
    return [plain(columns) for columns in FakePool().map(batches)]


def random_batches(dice: random.Random, count: int) -> list[Task]:
    """Batches of any length in which lines come again, blank ones among them; some as columns."""
    words = ["가", "나 다", "라\u3000마 ", *SPACE_SYMBOL, *(f"{number} 바" for number in range(60))]
    batches: list[Task] = []
    for number in range(count):
        texts = dice.choices(words, k=dice.choice((0, 1, 1, 3, 12)))
        known = [Analysis([f"known {number}"], ["K"], [0], "ok", 0, 3.0)] * len(texts)
        batches.append(to_record_batch(known) if dice.random() < 0.25 else texts)
    return batches


@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
@pytest.mark.parametrize("seed", range(5))
def test_results_are_those_without_the_cache(tmp_path: Path, seed: int, ahead: int) -> None:
    dice = random.Random(seed)
    through(tmp_path, random_batches(dice, 3))  # some lines are known from an earlier run
    batches = random_batches(dice, 80)
    pool = FakePool(ahead)
    with LineCache(tmp_path, "1", 100) as cache:
        results = list(mapped(pool, cache, iter(batches)))
        assert cache.hits > 0 and cache.misses > 0
    assert [plain(columns) for columns in results] == expected(batches)
    # Columns that were known come back as they were, in their turn.
    for batch, columns in zip(batches, results, strict=True):
        assert not isinstance(batch, pa.RecordBatch) or columns is batch
    assert all(texts == list(dict.fromkeys(texts)) != [] for texts in pool.sent)
    assert not any(map(is_blank, pool.lines))
    if ahead == 0:
        assert len(pool.lines) == len(set(pool.lines))

    # All of it is known now, whatever lies between.
    again, found = through(tmp_path, batches)
    assert again.sent == []
    assert len(again.passed) == len(batches)
    assert found == expected(batches)


def test_equal_lines_of_a_batch_are_sent_once(tmp_path: Path) -> None:
    texts = ["가", "나", "", "가", "나", "다", "", "가"]
    pool, found = through(tmp_path, [texts])
    assert pool.sent == [["가", "나", "다"]]
    assert found == [[fake(text)._replace(seconds=0.0) for text in texts]]


def test_only_new_lines_are_sent_in_their_order(tmp_path: Path) -> None:
    through(tmp_path, [["나", "라"]])
    pool, found = through(tmp_path, [["다", "라", "가", "나"], ["나", "가", "마"]])
    assert pool.sent == [["다", "가"], ["마"]]
    assert [[a.morphs for a in batch] for batch in found] == [
        [["다"], ["라"], ["가"], ["나"]],
        [["나"], ["가"], ["마"]],
    ]


def test_time_is_that_of_lines_that_were_analysed_now(tmp_path: Path) -> None:
    through(tmp_path, [["가", "나"]])
    with LineCache(tmp_path, "1", 100) as cache:
        (columns,) = mapped(FakePool(), cache, [["가", "다", "", "나", "라"]])
    assert columns["seconds"].to_pylist() == [0.0, 2.0, 0.0, 0.0, 2.0]
    assert columns["dropped"].to_pylist() == [1, 1, 0, 1, 1]


# What is kept

KEPT = ["ok", "lost: 3 characters", "cut: over budget", "fallback: over budget"]
NOT_KEPT = [
    *("fallback: too slow", "cut: too slow"),
    *("fallback: Java died", "cut: Java died"),
    *("fallback: JException", "cut: OutOfMemoryError", "fallback: StackOverflowError"),
]


@pytest.mark.parametrize("status", [*KEPT, *NOT_KEPT])
def test_what_a_second_run_might_do_better_is_not_kept(tmp_path: Path, status: str) -> None:
    texts = ["가", f"나 <{status}>", "다"]
    first, found = through(tmp_path, [texts])
    assert first.sent == [texts]
    second, again = through(tmp_path, [texts])
    assert second.lines == ([] if status in KEPT else [texts[1]])
    assert found == again == expected([texts])
    assert [analysis.status for analysis in again[0]] == ["ok", status, "ok"]


def test_a_line_that_is_not_kept_serves_its_batch(tmp_path: Path) -> None:
    texts = ["<cut: too slow>", "가", "<cut: too slow>"]
    pool, found = through(tmp_path, [texts, texts])
    assert pool.sent == [["<cut: too slow>", "가"], ["<cut: too slow>"]]
    assert found == expected([texts, texts])


def test_a_line_that_the_cache_cannot_hold_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["가", "나 다", "", "나 다", "라 <lost>"]

    def tabbed(text: str) -> Analysis:
        analysis = fake(text)
        return analysis._replace(morphs=[morph.replace("다", "다\t") for morph in analysis.morphs])

    class Tabbed(FakePool):
        def map(self, batches: Iterable[Task]) -> Iterator[pa.RecordBatch]:
            for columns in super().map(batches):
                rows = analyses_of(columns)
                yield to_record_batch(
                    [
                        tabbed(" ".join(row.morphs))._replace(status=row.status)
                        if row.morphs
                        else row
                        for row in rows
                    ]
                )

    for sent in (["가", "나 다", "라 <lost>"], ["나 다"]):
        pool = Tabbed()
        with LineCache(tmp_path, "1", 100) as cache:
            (columns,) = mapped(pool, cache, [texts])
        assert pool.lines == sent
        morphs = columns["morphs"].to_pylist()
        assert morphs == [["가"], ["나", "다\t"], [], ["나", "다\t"], ["라", "<lost>"]]


def test_columns_may_be_part_of_larger_ones(tmp_path: Path) -> None:
    """A pool may give a view into columns of its own; nothing of the rest gets through."""

    class Slices(FakePool):
        def map(self, batches: Iterable[Task]) -> Iterator[pa.RecordBatch]:
            for columns in super().map(batches):
                odd = to_record_batch([fake("앞 <ok>"), fake("앞 뒤")])
                table = pa.Table.from_batches([odd, columns, odd]).combine_chunks()
                yield table.to_batches()[0].slice(2, columns.num_rows)

    batches: list[Task] = [["가 나", "다 <cut: too slow>", "라"], ["가 나", "마", "마", "", "바"]]
    with LineCache(tmp_path, "1", 100) as cache:
        assert [plain(columns) for columns in mapped(Slices(), cache, batches)] == expected(batches)
    pool, found = through(tmp_path, batches)
    assert pool.sent == [["다 <cut: too slow>"]]
    assert found == expected(batches)


def test_time_stands_at_the_first_line_of_its_kind(tmp_path: Path) -> None:
    through(tmp_path, [["가"]])
    texts = ["", "나", "가", "나", "다", "가", "나", "다"]
    with LineCache(tmp_path, "1", 100) as cache:
        (columns,) = mapped(FakePool(), cache, [texts])
    assert columns.schema == ANALYSIS
    assert columns["seconds"].to_pylist() == [0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]


def test_blank_lines_do_not_reach_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    kept: list[str] = []

    class Noting(LineCache):
        def get(self, texts: Sequence[str]) -> list[Analysis | None]:
            asked.extend(texts)
            return super().get(texts)

        def put(self, texts: Sequence[str], columns: pa.RecordBatch) -> None:
            kept.extend(texts)
            super().put(texts, columns)

    pool = FakePool()
    batches = [[*SPACE_SYMBOL, "가"], SPACE_SYMBOL, [], [" 나 "]]
    with Noting(tmp_path, "1", 100) as cache:
        results = [plain(columns) for columns in mapped(pool, cache, batches)]
        assert cache.misses == 2
    assert results == expected(batches)
    assert asked == kept == ["가", " 나 "]
    assert pool.sent == [["가"], [" 나 "]]


def test_two_versions_do_not_share(tmp_path: Path) -> None:
    assert through(tmp_path, [["가"]], "kkma 1")[0].sent == [["가"]]
    assert through(tmp_path, [["가"]], "kkma 2")[0].sent == [["가"]]
    assert through(tmp_path, [["가"]], "kkma 1")[0].sent == []


@pytest.mark.parametrize("limit", [0, 100])
def test_without_a_cache_all_goes_on(tmp_path: Path, limit: int) -> None:
    folder = tmp_path / "folder"
    if limit:
        folder.write_text("no folder")
    batches: list[Task] = [["가", "나", "가"], ["가", ""], to_record_batch([EMPTY])]
    pool = FakePool()
    with LineCache(folder, "1", limit) as cache:
        results = [plain(columns) for columns in mapped(pool, cache, batches)]
    assert results == expected(batches)
    assert pool.sent == [["가", "나"], ["가"]]


# Broken off; memory


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_run_that_is_left_in_the_middle_keeps_what_it_gave(tmp_path: Path, ahead: int) -> None:
    batches = [[f"{number}", "가"] for number in range(10)]
    with LineCache(tmp_path, "1", 100) as cache:
        running = mapped(FakePool(ahead), cache, batches)
        given = [plain(next(running)) for _ in range(4)]
        cast(Generator[pa.RecordBatch, None, None], running).close()
        assert given == expected(batches[:4])
        # The same object serves on, and so does the file.
        pool = FakePool()
        assert [plain(columns) for columns in mapped(pool, cache, batches[:5])] == expected(
            batches[:5]
        )
        assert pool.sent == [["4"]]
    pool, found = through(tmp_path, batches)
    assert pool.lines == ["5", "6", "7", "8", "9"]
    assert found == expected(batches)


def test_an_error_of_the_pool_comes_through(tmp_path: Path) -> None:
    class Broken(FakePool):
        def map(self, batches: Iterable[Task]) -> Iterator[pa.RecordBatch]:
            for number, columns in enumerate(super().map(batches)):
                if number == 1:
                    raise KeyboardInterrupt
                yield columns

    with LineCache(tmp_path, "1", 100) as cache, pytest.raises(KeyboardInterrupt):
        list(mapped(Broken(), cache, [["가"], ["나"], ["다"]]))
    pool, _ = through(tmp_path, [["가"], ["나"], ["다"]])
    assert pool.sent == [["나"], ["다"]]


@pytest.mark.parametrize("ahead", [0, 1, 4])
@pytest.mark.parametrize("known", [False, True])
def test_no_more_is_read_than_the_pool_asks_for(tmp_path: Path, ahead: int, known: bool) -> None:
    texts = [[f"{number}"] for number in range(30)]
    if known:
        through(tmp_path, texts)
    taken = 0

    def batches() -> Iterator[list[str]]:
        nonlocal taken
        for batch in texts:
            taken += 1
            yield batch

    with LineCache(tmp_path, "1", 100) as cache:
        running = mapped(FakePool(ahead), cache, batches())
        assert taken == 0
        read = [taken - number for number, _ in enumerate(running, 1)]
    assert read == [min(ahead, 29 - number) for number in range(30)]


# With the pool itself


def test_a_second_run_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake_kkma(tmp_path / "fake", monkeypatch)
    config = KkmaConfig(name="kkma", engine=Engine.konlpy, threads=2, heap_mb=1024)
    batches = [[f"{number} 가", "나 나", "", "JAVA!" * (number == 7)] for number in range(20)]
    with TokenizerPool(config) as pool:
        results = [plain(columns) for columns in pool.map(batches)]
    with LineCache(tmp_path, "1", 100) as cache:
        with TokenizerPool(config) as pool:
            assert [plain(columns) for columns in mapped(pool, cache, batches)] == results
            assert len(pool._children) == 1
        taken = 0
        del batches[7]  # its JAVA! is not kept
        del results[7]

        def counted() -> Iterator[list[str]]:
            nonlocal taken
            for batch in batches:
                taken += 1
                yield batch

        with TokenizerPool(config) as pool:
            again, ahead = [], []
            for number, columns in enumerate(mapped(pool, cache, counted()), 1):
                again.append(plain(columns))
                ahead.append(taken - number)
            assert again == results
            assert pool._children == []
    # Two threads and two batches that wait for them, at most.
    assert max(ahead) <= 3
