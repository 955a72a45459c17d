"""map_cached returns what the pool alone would, and sends no line to it twice."""

import collections
import itertools
import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from fakes import install_fake_kkma

from korlm.config import KkmaConfig, KkmaEngine
from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import ANALYSIS, analyses_of, to_record_batch
from korlm.tokenizers.workers.line_cache import LineCache, map_cached
from korlm.tokenizers.workers.pool import Lines, TokenizerPool

SPACE_SYMBOL = ["", " ", "\t\u3000", "\0", "\x1c \x85"]


def fake(text: str) -> Analysis:
    """Return the fake pool's analysis of a line, whose status may be given in angle brackets."""
    if is_blank(text):
        return EMPTY
    units = text.split()
    status = text.partition("<")[2].rstrip(">") or "ok"
    return Analysis(units, ["N"] * len(units), list(range(len(units))), status, len(text), 2.0)


class FakePool:
    """A pool that records its batches; reads ``ahead`` more batches than it has returned."""

    def __init__(self, ahead: int = 0) -> None:
        self.ahead = ahead
        self.sent: list[list[str]] = []
        self.passed: list[pa.RecordBatch] = []

    def map(self, batches: Iterable[Lines]) -> Iterator[pa.RecordBatch]:
        left = iter(batches)
        queue: collections.deque[Lines] = collections.deque()
        while True:
            queue.extend(itertools.islice(left, 1 + self.ahead - len(queue)))
            if not queue:
                return
            batch = queue.popleft()
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
    pool: FakePool | TokenizerPool, cache: LineCache, batches: Iterable[Lines]
) -> Iterator[pa.RecordBatch]:
    return map_cached(cast(TokenizerPool, pool), cache, batches)


def plain(columns: pa.RecordBatch) -> list[Analysis]:
    """Return the lines of a batch without their time, which the cache does not store."""
    assert columns.validate(full=True) is None
    return [analysis._replace(seconds=0.0) for analysis in analyses_of(columns)]


def through(
    folder: Path, batches: Sequence[Lines], version: str = "1"
) -> tuple[FakePool, list[list[Analysis]]]:
    """Map batches with a new pool and a new cache."""
    pool = FakePool()
    with LineCache(folder, version, 100) as cache:
        return pool, [plain(columns) for columns in mapped(pool, cache, batches)]


def expected(batches: Iterable[Lines]) -> list[list[Analysis]]:
    return [plain(columns) for columns in FakePool().map(batches)]


def random_batches(rng: random.Random, count: int) -> list[Lines]:
    """Return batches of any length with repeated and blank lines; some are record batches."""
    words = ["가", "나 다", "라\u3000마 ", *SPACE_SYMBOL, *(f"{number} 바" for number in range(60))]
    batches: list[Lines] = []
    for number in range(count):
        texts = rng.choices(words, k=rng.choice((0, 1, 1, 3, 12)))
        known = [Analysis([f"known {number}"], ["K"], [0], "ok", 0, 3.0)] * len(texts)
        batches.append(to_record_batch(known) if rng.random() < 0.25 else texts)
    return batches


@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
@pytest.mark.parametrize("seed", range(5))
def test_results_are_those_without_the_cache(tmp_path: Path, seed: int, ahead: int) -> None:
    rng = random.Random(seed)
    through(tmp_path, random_batches(rng, 3))  # some lines are cached
    batches = random_batches(rng, 80)
    pool = FakePool(ahead)
    with LineCache(tmp_path, "1", 100) as cache:
        results = list(mapped(pool, cache, iter(batches)))
        assert cache.hits > 0 and cache.misses > 0
    assert [plain(columns) for columns in results] == expected(batches)
    # Record batches are passed through.
    for batch, columns in zip(batches, results, strict=True):
        assert not isinstance(batch, pa.RecordBatch) or columns is batch
    assert all(texts == list(dict.fromkeys(texts)) != [] for texts in pool.sent)
    assert not any(map(is_blank, pool.lines))
    if ahead == 0:
        assert len(pool.lines) == len(set(pool.lines))

    # Everything is cached now.
    again, results = through(tmp_path, batches)
    assert again.sent == []
    assert len(again.passed) == len(batches)
    assert results == expected(batches)


def test_only_new_lines_are_sent_in_their_order(tmp_path: Path) -> None:
    through(tmp_path, [["나", "라"]])
    batches: list[Lines] = [["다", "라", "", "가", "다", "나"], ["나", "가", "마", ""]]
    pool, results = through(tmp_path, batches)
    assert pool.sent == [["다", "가"], ["마"]]
    assert results == expected(batches)


# Statuses

KEPT = ["ok", "lost: 3 characters", "cut: over budget", "fallback: over budget"]
NOT_KEPT = [
    *("fallback: too slow", "cut: too slow"),
    *("fallback: Java died", "cut: Java died"),
    *("fallback: JException", "cut: OutOfMemoryError", "fallback: StackOverflowError"),
]


@pytest.mark.parametrize("status", [*KEPT, *NOT_KEPT])
def test_only_final_statuses_are_stored(tmp_path: Path, status: str) -> None:
    texts = ["가", f"나 <{status}>", "다"]
    first, results = through(tmp_path, [texts])
    assert first.sent == [texts]
    second, again = through(tmp_path, [texts])
    assert second.lines == ([] if status in KEPT else [texts[1]])
    assert results == again == expected([texts])
    assert [analysis.status for analysis in again[0]] == ["ok", status, "ok"]


def test_lines_that_are_not_stored_are_sent_once_a_batch(tmp_path: Path) -> None:
    texts = ["<cut: too slow>", "가", "<cut: too slow>"]
    pool, results = through(tmp_path, [texts, texts])
    assert pool.sent == [["<cut: too slow>", "가"], ["<cut: too slow>"]]
    assert results == expected([texts, texts])


def test_columns_may_be_part_of_larger_ones(tmp_path: Path) -> None:
    """A pool may return a slice of larger columns."""

    class Slices(FakePool):
        def map(self, batches: Iterable[Lines]) -> Iterator[pa.RecordBatch]:
            for columns in super().map(batches):
                odd = to_record_batch([fake("앞 <ok>"), fake("앞 뒤")])
                table = pa.Table.from_batches([odd, columns, odd]).combine_chunks()
                yield table.to_batches()[0].slice(2, columns.num_rows)

    batches: list[Lines] = [["가 나", "다 <cut: too slow>", "라"], ["가 나", "마", "마", "", "바"]]
    with LineCache(tmp_path, "1", 100) as cache:
        assert [plain(columns) for columns in mapped(Slices(), cache, batches)] == expected(batches)
    pool, results = through(tmp_path, batches)
    assert pool.sent == [["다 <cut: too slow>"]]
    assert results == expected(batches)


def test_time_is_that_of_the_first_of_equal_lines(tmp_path: Path) -> None:
    through(tmp_path, [["가"]])
    texts = ["", "나", "가", "나", "다", "가", "나", "다"]
    with LineCache(tmp_path, "1", 100) as cache:
        (columns,) = mapped(FakePool(), cache, [texts])
    assert columns.schema == ANALYSIS
    assert columns["seconds"].to_pylist() == [0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]


def test_blank_lines_do_not_reach_the_cache(tmp_path: Path) -> None:
    pool = FakePool()
    batches = [[*SPACE_SYMBOL, "가"], SPACE_SYMBOL, [], [" 나 "]]
    with LineCache(tmp_path, "1", 100) as cache:
        results = [plain(columns) for columns in mapped(pool, cache, batches)]
        assert cache.misses == 2
    assert results == expected(batches)
    assert pool.sent == [["가"], [" 나 "]]


def test_without_a_usable_cache(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.write_text("no folder")
    batches: list[Lines] = [["가", "나", "가"], ["가", ""], to_record_batch([EMPTY])]
    pool, results = through(folder, batches)
    assert results == expected(batches)
    assert pool.sent == [["가", "나"], ["가"]]


# Interruptions; memory


@pytest.mark.parametrize("ahead", [0, 3])
def test_an_abandoned_run_keeps_what_it_returned(tmp_path: Path, ahead: int) -> None:
    batches = [[f"{number}", "가"] for number in range(10)]
    with LineCache(tmp_path, "1", 100) as cache:
        running = mapped(FakePool(ahead), cache, batches)
        given = [plain(next(running)) for _ in range(4)]
        cast(Generator[pa.RecordBatch, None, None], running).close()
        assert given == expected(batches[:4])
        # The cache can still be used.
        pool = FakePool()
        assert [plain(columns) for columns in mapped(pool, cache, batches[:5])] == expected(
            batches[:5]
        )
        assert pool.sent == [["4"]]
    pool, results = through(tmp_path, batches)
    assert pool.lines == ["5", "6", "7", "8", "9"]
    assert results == expected(batches)


def test_an_error_of_the_pool_is_raised(tmp_path: Path) -> None:
    class Broken(FakePool):
        def map(self, batches: Iterable[Lines]) -> Iterator[pa.RecordBatch]:
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
def test_no_more_is_read_than_the_pool_requests(tmp_path: Path, ahead: int, known: bool) -> None:
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


# With a real pool


def test_a_second_run_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake_kkma(tmp_path / "fake", monkeypatch)
    config = KkmaConfig(name="kkma", engine=KkmaEngine.konlpy, threads=2, heap_mb=1024)
    batches = [[f"{number} 가", "나 나", "", "JAVA!" * (number == 7)] for number in range(20)]
    with TokenizerPool(config) as pool:
        results = [plain(columns) for columns in pool.map(batches)]
    with LineCache(tmp_path, "1", 100) as cache:
        with TokenizerPool(config) as pool:
            assert [plain(columns) for columns in mapped(pool, cache, batches)] == results
            assert len(pool._children) == 1
        del batches[7]  # its JAVA! is not kept
        del results[7]
        with TokenizerPool(config) as pool:
            assert [plain(columns) for columns in mapped(pool, cache, batches)] == results
            assert pool._children == []
