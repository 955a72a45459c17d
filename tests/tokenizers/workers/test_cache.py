"""The cache gives back what was put, or nothing: never a wrong token, never an exception."""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import ROOT, sentences

from korlm.tokenizers.analysis import ANALYSIS, EMPTY, Analysis, to_record_batch
from korlm.tokenizers.workers import line_cache as cache_module
from korlm.tokenizers.workers.line_cache import LineCache

LINES = sentences(300, seed=1)
LINES = [f"{number} {line}" for number, line in enumerate(LINES)]  # each one once
ANY = 100  # MiB; no limit for these tests

CONTROLS = ["\0", "\r", "\x0b\x0c\x1c", "\x85\u2028"]
AWKWARD = {
    "hangul": ("아버지가 방에", Analysis(["아버지", "가", "방", "에"], [*"NJNJ"], [0, 0, 1, 1])),
    "jamo": ("ㅋㅋ 갔다", Analysis(["ㅋㅋ", "가", "았", "ㄴ다", "ᆫ다"], [""] * 5, [0, 1, 1, 1, 1])),
    "emoji": (
        "👍🏽 좋아",
        Analysis(["👍", "🏽", "좋", "아"], ["SW", "SW", "VA", "E"], [0, 0, 1, 1]),
    ),
    "halves": ("\ud83d\ude00 \udc80", Analysis(["😀"] * 3, ["a"] * 3, [0] * 3)),
    "controls": ("a\tb\0c\x85\n", Analysis(CONTROLS, ["\r", "\x85", "", "\0"], [0] * 4)),
    "quotes": ('"] \\u0041', Analysis(['"', "]", "\\u0041"], ['","', "{}", "\\"], [0, 0, 1])),
    "empty tokens": ("x", Analysis(["", "", " "], ["", " ", ""], [0, 0, 0])),
    "nothing": ("   ", EMPTY),
    "no text": ("", Analysis([], [], [], "fallback: 왜 냐", 3)),
    "one empty token": ("y", Analysis([""], [""], [0])),
    "leaps": ("a b", Analysis(["a"] * 5, ["b"] * 5, [78, 78, 87, 88, 166], "cut", (1 << 31) - 1)),
    "long": ("가나 " * 50_000, Analysis(["가나"] * 50_000, ["MAG"] * 50_000, [*range(50_000)])),
}

TWO = Analysis(["가", "ㄴ다"], ["VV", "EFN"], [0, 0])
NOT_KEPT = {
    "tab": TWO._replace(morphs=["가\t", "ㄴ다"]),
    "line break": TWO._replace(morphs=["가", "\n"]),
    "tab in a tag": TWO._replace(tags=["VV", "\t"]),
    "line break in a tag": TWO._replace(tags=["VV\n", "EFN"]),
    "tab in the status": TWO._replace(status="cut\t"),
    "line break in the status": TWO._replace(status="fallback: 왜\n냐"),
    "no status": TWO._replace(status=""),
    "long status": TWO._replace(status="x" * 1000),
    "back": TWO._replace(eojeol=[1, 0]),
    "negative": TWO._replace(eojeol=[-1, 0]),
    "too far": TWO._replace(eojeol=[0, 79]),
    "too far at once": TWO._replace(eojeol=[79, 79]),
    "beyond 32 bits": TWO._replace(eojeol=[-(1 << 31), (1 << 31) - 1]),
    "fewer than none": TWO._replace(dropped=-1),
}


def fake(text: str) -> Analysis:
    """An analysis in the manner of Kkma."""
    morphs = [text[i : i + 2] for i in range(0, len(text), 2)]
    return Analysis(morphs, ["NNG"] * len(morphs), [i // 2 for i in range(len(morphs))])


def fill(cache: LineCache, texts: Sequence[str]) -> None:
    cache.put(texts, to_record_batch([fake(text) for text in texts]))


def known(cache: LineCache, texts: Sequence[str]) -> list[bool]:
    """Which lines the cache knows; what it gives for them must be right."""
    found = cache.get(texts)
    assert len(found) == len(texts)
    for text, analysis in zip(texts, found, strict=True):
        assert analysis in (None, fake(text))
    return [analysis is not None for analysis in found]


def database(folder: Path) -> Path:
    (path,) = folder.glob("lines-*.sqlite")
    return path


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("lines-*.sqlite"))


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """The database behind the cache's back."""
    with contextlib.closing(sqlite3.connect(database(folder), isolation_level=None)) as connection:
        yield connection


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# What goes in comes out


@pytest.mark.parametrize("name", AWKWARD)
def test_round_trip(tmp_path: Path, name: str) -> None:
    text, analysis = AWKWARD[name]
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put([text], to_record_batch([analysis]))
        assert cache.get([text]) == [analysis]
    with LineCache(tmp_path, "1", ANY) as cache:
        (found,) = cache.get([text])
    assert found == analysis
    assert isinstance(found, Analysis)


def test_round_trip_of_anything(tmp_path: Path) -> None:
    dice = random.Random(2)
    chars = '가나 ㄱ\0"\\,[]a\r\x7f\x85\u2028😀\U0010ffff'

    def text(more: str = "") -> str:
        return "".join(dice.choices(chars + more, k=dice.randrange(6)))

    def plain(tokens: list[str]) -> bool:
        return not set("".join(tokens)) & set("\t\n")

    given: dict[str, Analysis] = {}
    expected: list[Analysis | None] = []
    while len(given) < 1000:
        line = text("\t\n\ud800\udfff")
        if line in given:
            continue
        count = dice.randrange(5)
        odd = dice.choice(["", "", "\t\n"])
        morphs, tags = ([text(odd) for _ in range(count)] for _ in range(2))
        steps = [dice.choice([0, 1, 2, 78, dice.choice([0, 0, 0, 79, -1])]) for _ in range(count)]
        eojeol = list(itertools.accumulate(steps))
        status = dice.choice(["ok", "lost: 3 characters", "cut: 왜 '😀'", text()])
        given[line] = Analysis(morphs, tags, eojeol, status, dice.randrange(9))
        fits = plain(morphs) and plain(tags) and all(0 <= step <= 78 for step in steps)
        expected.append(given[line] if fits and status and status.isprintable() else None)
    assert 300 < expected.count(None) < 700
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(list(given), to_record_batch(list(given.values())))
        assert cache.get(list(given)) == expected


@pytest.mark.parametrize("name", NOT_KEPT)
def test_what_no_value_can_hold_is_not_kept(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["하나", "둘", "셋", "넷"]
    analyses = [fake("하나"), NOT_KEPT[name], EMPTY, fake("넷")]
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(texts, to_record_batch(analyses))
        assert cache.get(texts) == [analyses[0], None, *analyses[2:]]
    with opened(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (3,)
    assert not warnings(caplog)


def test_halves_of_a_character_are_no_tokens() -> None:
    """Columns cannot hold them."""
    with pytest.raises(UnicodeEncodeError):
        to_record_batch([TWO._replace(morphs=["\ud83d", "\ude00"])])


@pytest.mark.parametrize("column", ["morphs", "tags", "eojeol", "status", "dropped"])
@pytest.mark.parametrize("within", [False, True])
def test_a_line_with_a_hole_is_not_kept(tmp_path: Path, column: str, within: bool) -> None:
    columns = to_record_batch([TWO, TWO, TWO])
    number = ANALYSIS.get_field_index(column)
    values = columns[column].to_pylist()
    values[1] = [None, values[1][1]] if within and isinstance(values[1], list) else None
    columns = columns.set_column(
        number, ANALYSIS.field(number), pa.array(values, ANALYSIS.types[number])
    )
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(["하나", "둘", "셋"], columns)
        assert cache.get(["하나", "둘", "셋"]) == [TWO, None, TWO]


@pytest.mark.parametrize("column", ["morphs", "tags", "eojeol"])
@pytest.mark.parametrize("change", [-1, 1])
def test_counts_that_differ_are_not_kept(tmp_path: Path, column: str, change: int) -> None:
    columns = to_record_batch([TWO, TWO, TWO])
    number = ANALYSIS.get_field_index(column)
    values = columns[column].to_pylist()
    values[1] = values[1][:-1] if change < 0 else [*values[1], values[1][-1]]
    columns = columns.set_column(
        number, ANALYSIS.field(number), pa.array(values, ANALYSIS.types[number])
    )
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(["하나", "둘", "셋"], columns)
        assert cache.get(["하나", "둘", "셋"]) == [TWO, None, TWO]
    with opened(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (2,)


@pytest.mark.parametrize("tags", [["V\tV"], ["V\t", "V", "V"], [""]])
def test_a_tab_does_not_stand_in_for_a_token(tmp_path: Path, tags: list[str]) -> None:
    columns = to_record_batch([TWO, EMPTY])
    values = pa.array([tags, [""]], ANALYSIS.types[1])
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(["하나", ""], columns.set_column(1, ANALYSIS.field(1), values))
        assert cache.get(["하나", ""]) == [None, None]
    with opened(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (0,)


def test_part_of_larger_columns(tmp_path: Path) -> None:
    analyses = [fake(text)._replace(dropped=number) for number, text in enumerate(LINES)]
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(LINES[100:200], to_record_batch(analyses).slice(100, 100))
        assert cache.get(LINES) == [None] * 100 + analyses[100:200] + [None] * 100


def test_the_time_a_line_took_is_not_kept(tmp_path: Path) -> None:
    slow = fake("간다")._replace(seconds=3.0, dropped=2, status="lost")
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(["간다"], to_record_batch([slow]))
        assert cache.get(["간다"]) == [slow._replace(seconds=0.0)]


def test_order_doubles_and_counts(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        assert cache.get([]) == []
        cache.put([], to_record_batch([]))
        fill(cache, ["하나", "둘", "둘"])
        assert cache.get(["둘", "셋", "하나", "둘"]) == [fake("둘"), None, fake("하나"), fake("둘")]
        assert (cache.hits, cache.misses) == (3, 1)
        fill(cache, ["셋"])
        cache.get(["셋"])
        assert (cache.hits, cache.misses) == (4, 1)


def test_more_lines_than_one_query_takes(tmp_path: Path) -> None:
    texts = [str(number) for number in range(2 * cache_module.KEYS + 1)]
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, texts)
        assert all(known(cache, texts))


def test_the_last_analysis_holds(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(["간다"], to_record_batch([Analysis(["간다"], ["UN"], [0])]))
        fill(cache, ["간다"])
        assert cache.get(["간다"]) == [fake("간다")]


def test_each_line_needs_its_analysis(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache, pytest.raises(ValueError):
        cache.put(["하나", "둘"], to_record_batch([fake("하나")]))


def test_values_are_small(tmp_path: Path) -> None:
    """Even without anything that repeats: what packs a line knows Kkma's tags."""
    morphs = ["아버지", "가", "방", "에", "들어가", "시", "ㄴ다", "."]
    tags = ["NNG", "JKS", "NNG", "JKM", "VV", "EPH", "EFN", "SF"]
    analysis = Analysis(morphs, tags, [0, 0, 0, 0, 0, 0, 0, 0])
    with LineCache(tmp_path, "1", ANY) as cache:
        cache.put(["아버지가방에들어가신다."], to_record_batch([analysis]))
    plain = len(json.dumps(analysis, ensure_ascii=False).encode())
    with opened(tmp_path) as connection:
        (packed,) = connection.execute("SELECT length(packed) FROM lines").fetchone()
    assert packed < 0.4 * plain


# Versions


def test_another_version_knows_nothing(tmp_path: Path) -> None:
    for version in ("1", "2"):
        with LineCache(tmp_path, version, ANY) as cache:
            assert not any(known(cache, LINES))
            fill(cache, LINES)
    with LineCache(tmp_path, "1", ANY) as cache:
        assert all(known(cache, LINES))


def test_a_file_under_the_name_of_another_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    old = database(tmp_path)
    with LineCache(tmp_path, "2", ANY):
        (new,) = set(tmp_path.glob("lines-*.sqlite")) - {old}
    shutil.copyfile(old, new)
    with LineCache(tmp_path, "2", ANY) as cache:
        assert not any(known(cache, LINES))
    (warning,) = warnings(caplog)
    assert "another version" in warning


def test_no_cache(tmp_path: Path) -> None:
    with LineCache(tmp_path / "none", "1", 0) as cache:
        fill(cache, LINES)
        assert not any(known(cache, LINES))
    assert not (tmp_path / "none").exists()


def test_closed(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    cache.close()
    fill(cache, LINES)
    assert not any(known(cache, LINES))
    assert cache.misses == len(LINES)


# Damaged values


def test_a_flipped_bit_is_a_miss(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, ["아버지가 방에"])
        with opened(tmp_path) as connection:
            ((whole,),) = connection.execute("SELECT packed FROM lines").fetchall()
            for bit in range(8 * len(whole)):
                damaged = bytearray(whole)
                damaged[bit // 8] ^= 1 << bit % 8
                connection.execute("UPDATE lines SET packed = ?", (bytes(damaged),))
                assert cache.get(["아버지가 방에"]) == [None]
            for end in range(len(whole)):
                connection.execute("UPDATE lines SET packed = ?", (whole[:end],))
                assert cache.get(["아버지가 방에"]) == [None]
            connection.execute("UPDATE lines SET packed = ?", (whole,))
        assert cache.get(["아버지가 방에"]) == [fake("아버지가 방에")]


@pytest.mark.parametrize(
    "change",
    [
        "length = 1",
        "length = length + 1",
        "length = 'two'",
        "packed = NULL",
        "packed = 7",
        "packed = CAST(x'ff00' AS TEXT)",
        "packed = x''",
    ],
)
def test_foreign_columns_are_misses(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, ["가다", "나라"])
        with opened(tmp_path) as connection:
            connection.execute(f"UPDATE lines SET {change}")
        assert cache.get(["가다", "나라"]) == [None, None]
        fill(cache, ["가다", "나라"])
        assert all(known(cache, ["가다", "나라"]))
    assert not warnings(caplog)


def test_the_value_of_another_line_is_a_miss(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, ["가다", "나라"])  # of the same length: the key in the checksum must tell
        with opened(tmp_path) as connection:
            ((last,),) = connection.execute("SELECT packed FROM lines WHERE id = 2").fetchall()
            connection.execute("UPDATE lines SET packed = ?", (last,))
        assert cache.get(["가다", "나라"]) == [None, fake("나라")]


def forge(cache: LineCache, folder: Path, text: str, raw: bytes) -> None:
    """Stores what a stranger could, checksum and all."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -12, 5, zdict=cache_module._DICTIONARY)
    body = packer.compress(raw) + packer.flush()
    key = cache_module._key(text)
    packed = cache_module._checksum(key, body) + body
    with opened(folder) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO lines (key, used, length, packed) VALUES (?, 1, ?, ?)",
            (key, len(text), packed),
        )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"ok\n0\n0\nA\n\xff",
        b"ok\n0\n0\nA\n\xed\xa0\x80",
        b'["ok",0,[0],["A"],["a"]]',
        b"ok\n0\n0\nA",
        b"ok\n0\n0\nA\na\n",
        b"ok\n0\n0\nA\na\na",
        b"ok\n0\n0\nA\tB\na",
        b"ok\n0\n0\nA\na\tb",
        b"ok\n0\n0\nA\tB\na\tb",
        b"ok\n0\n00\nA\na",
        b"ok\n0\n000\nA\tB\na\tb",
        b"ok\n0\n\nA\na",
        b"ok\n0\n\nA\n",
        b"ok\n0\n\n\na",
        b"ok\n0\n\n\t\n\t",
        b"ok\n0\n/\nA\na",
        b"ok\n0\n\x7f\nA\na",
        b"ok\n0\n \nA\na",
        "ok\n0\n０\nA\na".encode(),
        "ok\n0\n\u0665\nA\na".encode(),
        b"ok\n-1\n0\nA\na",
        b"ok\n+1\n0\nA\na",
        b"ok\n1_0\n0\nA\na",
        b"ok\n0.5\n0\nA\na",
        b"ok\n 0\n0\nA\na",
        b"ok\n\n0\nA\na",
        b"ok\n2147483648\n0\nA\na",
        b"ok\n" + b"9" * 5000 + b"\n0\nA\na",
        "ok\n１\n0\nA\na".encode(),
        b"\n0\n0\nA\na",
        b"o\tk\n0\n0\nA\na",
        b"o\0k\n0\n0\nA\na",
        b"x" * 1000 + b"\n0\n0\nA\na",
        b"\t" * 100_000,
        b"ok\n0\n0\nA\na" + b" " * (1 << 24),
    ],
    ids=lambda raw: raw[:30].decode("latin-1"),
)
def test_a_forged_value_is_a_miss(
    tmp_path: Path, raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        forge(cache, tmp_path, "간다", raw)
        assert cache.get(["간다"]) == [None]
        forge(cache, tmp_path, "간다", b"cut: x\n7\n02\nA\tB\na\tb")  # forging works
        assert cache.get(["간다"]) == [Analysis(["a", "b"], ["A", "B"], [0, 2], "cut: x", 7)]
    assert not warnings(caplog)


def test_a_value_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "LARGEST", 1000)
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, ["가" * 2000, "간다"])
        assert known(cache, ["가" * 2000, "간다"]) == [False, True]
    with opened(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (1,)


# Damaged files


def damage_nothing_there(path: Path) -> None:
    path.write_bytes(b"")


def damage_no_database(path: Path) -> None:
    path.write_bytes("문서\n".encode() * 5000)


def damage_first_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


def damage_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damage_other_tables(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE lines (key)")


def damage_trigger(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER evil AFTER INSERT ON lines BEGIN DELETE FROM lines; END")


def damage_about(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM about")


@pytest.mark.parametrize(
    "damage",
    [
        damage_nothing_there,
        damage_no_database,
        damage_first_page,
        damage_cut,
        damage_other_tables,
        damage_trigger,
        damage_about,
    ],
)
def test_a_damaged_file_is_begun_anew(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    assert callable(damage)
    damage(database(tmp_path))
    with LineCache(tmp_path, "1", ANY) as cache:
        assert not all(known(cache, LINES))
        fill(cache, LINES)
        assert all(known(cache, LINES))
    said = warnings(caplog)
    # An empty file is what SQLite itself begins with.
    assert len(said) == (damage is not damage_nothing_there)
    assert all("begun anew" in warning and str(tmp_path) in warning for warning in said)
    with LineCache(tmp_path, "1", ANY) as cache:
        assert all(known(cache, LINES))
    assert len(warnings(caplog)) == len(said)


def overwrite_pages(path: Path) -> None:
    """All but the first page; as another process, whose closing a file does not end our locks."""
    code = (
        "import sys, os; path = sys.argv[1]; size = os.stat(path).st_size\n"
        "with open(path, 'r+b') as file: file.seek(4096); file.write(b'\\xee' * (size - 4096))"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)


@pytest.mark.parametrize("first", ["get", "put"])
def test_a_file_damaged_while_open(
    tmp_path: Path, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    with LineCache(tmp_path, "1", ANY) as cache, LineCache(tmp_path, "1", ANY) as other:
        overwrite_pages(database(tmp_path))
        if first == "get":
            assert not any(known(cache, LINES))
        else:
            fill(cache, LINES[:1])
        fill(cache, LINES)
        assert all(known(cache, LINES))
        assert len(warnings(caplog)) == 1
        # Who meets the same damage later does not remove the new file.
        assert not any(known(other, LINES))
        assert all(known(other, LINES))
        assert all(known(cache, LINES))
        assert len(warnings(caplog)) == 2
    assert len(warnings(caplog)) == 2


def test_damage_again_and_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        for _ in range(4):
            fill(cache, LINES)
            with contextlib.suppress(sqlite3.DatabaseError), opened(tmp_path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            overwrite_pages(database(tmp_path))
            assert not any(known(cache, LINES))
    first, second = warnings(caplog)
    assert "begun anew" in first
    assert "without a cache" in second


# Limits


CHARS = [chr(code) for code in range(ord("가"), ord("힣"))]


@functools.cache
def long_line(number: int) -> str:
    """One that takes about 1 kB: chance does not pack well."""
    return f"{number} " + "".join(random.Random(number).choices(CHARS, k=300))


def long_lines(begin: int, end: int) -> list[str]:
    return [long_line(number) for number in range(begin, end)]


def test_the_file_keeps_to_its_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = long_lines(0, 2500)
    largest = 0
    with LineCache(tmp_path, "1", 1) as cache:
        for begin in range(0, len(texts), 100):
            fill(cache, texts[begin : begin + 100])
            with opened(tmp_path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            largest = max(largest, size(tmp_path))
            assert all(known(cache, texts[begin : begin + 100]))
        there = known(cache, texts)
    assert 0.85 * (1 << 20) < largest <= 1 << 20
    # The newest stay, all of them, and fill the file.
    kept = sum(there)
    assert kept > 500
    assert all(there[-kept:])
    assert not warnings(caplog)


def test_lines_in_use_outlive_others(tmp_path: Path) -> None:
    texts = long_lines(0, 600)
    used, unused = texts[:100], texts[100:600]
    with LineCache(tmp_path, "1", 1) as cache:
        fill(cache, texts)
    with LineCache(tmp_path, "1", 1) as cache:
        assert all(known(cache, used))  # noted when the cache is closed
    with LineCache(tmp_path, "1", 1) as cache:
        fill(cache, long_lines(1000, 1500))
        assert all(known(cache, used))
        assert sum(known(cache, unused)) < len(unused)


def test_use_is_noted_before_lines_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = long_lines(0, 600)
    with LineCache(tmp_path, "1", 1) as cache:
        fill(cache, texts)
    with LineCache(tmp_path, "1", 1) as cache:
        cache.get(texts[:100])
        for begin in range(1000, 1500, 100):
            fill(cache, long_lines(begin, begin + 100))
        assert all(known(cache, texts[:100]))
    # Without writing, they are noted once there are many.
    monkeypatch.setattr(cache_module, "TOUCHED", 50)
    with LineCache(tmp_path, "1", 1) as cache:
        cache.get(texts[:100])
        with opened(tmp_path) as connection:
            query = "SELECT count(*) FROM lines WHERE used = (SELECT run FROM about)"
            assert connection.execute(query).fetchone() == (100,)


def test_runs_at_once_are_of_one_age(tmp_path: Path) -> None:
    with LineCache(tmp_path, "1", 1) as first, LineCache(tmp_path, "1", 1) as second:
        fill(second, long_lines(0, 500))
        fill(first, long_lines(500, 700))
        fill(second, long_lines(700, 900))
        assert all(known(first, long_lines(500, 900)))
        assert not all(known(first, long_lines(0, 500)))


def test_a_batch_beyond_the_limit(tmp_path: Path) -> None:
    texts = long_lines(0, 3000)
    with LineCache(tmp_path, "1", 1) as cache:
        fill(cache, texts)
        fill(cache, ["간다"])
        assert known(cache, ["간다"]) == [True]
    assert size(tmp_path) <= 1 << 20


def test_a_smaller_limit_shrinks_the_file(tmp_path: Path) -> None:
    texts = long_lines(0, 3000)
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, texts)
    assert size(tmp_path) > 5 << 19
    with LineCache(tmp_path, "1", 2) as cache:
        there = known(cache, texts)
    assert 3 << 19 < size(tmp_path) <= 2 << 20
    kept = sum(there)
    assert kept > 1200
    assert all(there[-kept:])


def test_other_versions_give_way_first(tmp_path: Path) -> None:
    paths: dict[str, Path] = {}
    for age, version in enumerate(["older", "old", "in use"]):
        before = set(tmp_path.glob("lines-*.sqlite"))
        with LineCache(tmp_path, version, ANY) as cache:
            fill(cache, long_lines(0, 1000))
        (paths[version],) = set(tmp_path.glob("lines-*.sqlite")) - before
        os.utime(paths[version], (age, age))
    each = paths["old"].stat().st_size
    assert each > 1 << 20
    texts = long_lines(0, 2000)
    with LineCache(tmp_path, "in use", ANY) as user, LineCache(tmp_path, "new", 5) as cache:
        os.utime(paths["in use"], (0, 0))
        fill(cache, texts[:1000])
        assert [path.exists() for path in paths.values()] == [True, True, True]
        fill(cache, texts[1000:])
        assert [path.exists() for path in paths.values()] == [False, True, True]
        assert all(known(cache, texts))
        for begin in range(2000, 5000, 1000):
            fill(cache, long_lines(begin, begin + 1000))
        fill(cache, ["간다"])
        assert [path.exists() for path in paths.values()] == [False, False, True]
        # The other file is in use: this one takes what it leaves.
        assert all(known(user, long_lines(0, 1000)))
        assert known(cache, ["간다"]) == [True]
    assert (5 << 20) - each // 2 < size(tmp_path) <= 5 << 20


def test_a_damaged_file_of_another_version_gives_way(tmp_path: Path) -> None:
    other = tmp_path / "lines-0123456789abcdef.sqlite"
    other.write_bytes(b"x" * (1 << 20))
    with LineCache(tmp_path, "1", 1) as cache:
        fill(cache, LINES)
        assert all(known(cache, LINES))
    assert not other.exists()


# Trouble with the disk


def test_a_folder_in_whose_place_a_file_stands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with LineCache(tmp_path / "file" / "cache", "1", ANY) as cache:
        fill(cache, LINES)
        assert not any(known(cache, LINES))
        fill(cache, LINES)
    (warning,) = warnings(caplog)
    assert "without a cache" in warning


def test_a_folder_in_the_place_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LineCache(tmp_path, "1", ANY):
        path = database(tmp_path)
    path.unlink()
    path.mkdir()
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
        assert not any(known(cache, LINES))
    assert len(warnings(caplog)) == 1


READ_ONLY = """
import logging, os, sys
from pathlib import Path
from korlm.tokenizers.workers.line_cache import LineCache
from korlm.tokenizers.analysis import EMPTY, to_record_batch
logging.basicConfig(format="%(levelname)s %(message)s")
folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
with LineCache(folder, "1", 10) as cache:
    cache.put(["a"], to_record_batch([EMPTY]))
    print(cache.get(["a", "b"]))
    cache.put(["a"], to_record_batch([EMPTY]))
"""


@pytest.mark.parametrize("filled", [False, True])
def test_a_folder_that_cannot_be_written(filled: bool) -> None:
    # Not tmp_path, which only its owner may enter.
    folder = Path(tempfile.mkdtemp())
    try:
        if filled:
            with LineCache(folder, "1", ANY) as cache:
                fill(cache, LINES)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, folder],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        assert done.stdout == "[None, None]\n"
        (warning,) = done.stderr.splitlines()
        assert warning.startswith("WARNING") and "without a cache" in warning
        assert list(folder.iterdir()) == [] or filled
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES[:10])
        assert cache._connection is not None
        pages = cache._connection.execute("PRAGMA page_count").fetchone()[0]
        cache._connection.execute(f"PRAGMA max_page_count={pages}")
        fill(cache, LINES)
        (warning,) = warnings(caplog)
        assert "full" in warning and "without a cache" in warning
        fill(cache, LINES)
        assert not any(known(cache, LINES))
    assert len(warnings(caplog)) == 1
    with LineCache(tmp_path, "1", ANY) as cache:
        assert known(cache, LINES) == [True] * 10 + [False] * (len(LINES) - 10)


@pytest.mark.parametrize("when", ["open", "put", "touch"])
def test_a_locked_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    monkeypatch.setattr(cache_module, "BUSY_SECONDS", 0.05)
    with LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
    with opened(tmp_path) as connection:
        if when == "open":
            connection.execute("BEGIN IMMEDIATE")
        with LineCache(tmp_path, "1", ANY) as cache:
            if when != "open":
                assert all(known(cache, LINES))  # readers do not wait
                connection.execute("BEGIN IMMEDIATE")
                assert all(known(cache, LINES))
            if when != "touch":
                fill(cache, LINES)
                assert not any(known(cache, LINES))
                fill(cache, LINES)
        connection.execute("ROLLBACK")
    (warning,) = warnings(caplog)
    assert "locked" in warning and "without a cache" in warning


def test_a_lock_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache_module, "BUSY_SECONDS", 0.05)
    with cache_module._lock(tmp_path / "any"), LineCache(tmp_path, "1", ANY) as cache:
        fill(cache, LINES)
        assert not any(known(cache, LINES))
    assert len(warnings(caplog)) == 1


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    with LineCache(tmp_path, "1", ANY) as cache:
        with monkeypatch.context() as patch:
            patch.setattr(cache_module, "_drop_oldest", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fill(cache, LINES[:100])
        assert not any(known(cache, LINES))
        fill(cache, LINES[100:])
        assert known(cache, LINES) == [False] * 100 + [True] * (len(LINES) - 100)


# Other processes

WORKER = """
import hashlib, itertools, logging, sys
from pathlib import Path
from korlm.tokenizers.workers.line_cache import LineCache
from korlm.tokenizers.analysis import Analysis, to_record_batch
logging.basicConfig(format="%(levelname)s %(message)s")
folder, seed, limit, end = Path(sys.argv[1]), *map(int, sys.argv[2:])

def fake(text):
    return Analysis([text, text], ["A", str(len(text))], [0, 1])

def lines(seed, number):
    # Half of them are everybody's.
    heads = [f"{(0, seed)[i % 2]} {number} {i}" for i in range(50)]
    return [hashlib.shake_128(head.encode()).hexdigest(200) for head in heads]

with LineCache(folder, "1", limit) as cache:
    print("open", flush=True)
    sys.stdin.readline()
    for number in itertools.count():
        if number == end:
            break
        texts = lines(seed, number)
        for text, found in zip(texts, cache.get(texts)):
            assert found in (None, fake(text)), found
        cache.put(texts, to_record_batch(list(map(fake, texts))))
        assert limit == 1 or cache.get(texts) == list(map(fake, texts))
        print(number, flush=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts workers; none outlives the test."""
    with contextlib.ExitStack() as started:

        def start(folder: Path, seed: int, limit: int, end: int) -> subprocess.Popen[str]:
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, folder, str(seed), str(limit), str(end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            started.enter_context(worker)
            started.callback(worker.kill)
            assert worker.stdout is not None and worker.stdout.readline() == "open\n"
            return worker

        yield start


def go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def worker_lines(seed: int, number: int) -> list[str]:
    heads = [f"{(0, seed)[i % 2]} {number} {i}" for i in range(50)]
    return [hashlib.shake_128(head.encode()).hexdigest(200) for head in heads]


@pytest.mark.parametrize("limit", [ANY, 1])
def test_several_processes_at_once(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], limit: int
) -> None:
    rounds = 60
    workers = [start(tmp_path / "new", seed, limit, rounds) for seed in (1, 2, 3)]
    for worker in workers:
        go(worker)
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert (worker.returncode, errors) == (0, "")
    lasts: list[Analysis | None] = []
    with LineCache(tmp_path / "new", "1", limit) as cache:
        for seed in (1, 2, 3):
            lasts += cache.get(worker_lines(seed, rounds - 1))
            everything = [a for n in range(rounds) for a in cache.get(worker_lines(seed, n))]
            if limit == ANY:
                assert None not in everything
            else:
                assert None in everything
    assert any(lasts)  # whoever wrote last, what it wrote is there
    assert size(tmp_path / "new") <= limit << 20
    with opened(tmp_path / "new") as connection:
        assert connection.execute("SELECT run FROM about").fetchone() == (4,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_killed_processes(
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was put is there, whenever the process was killed."""
    dice = random.Random(4)
    for seed in range(1, 5):
        worker = start(tmp_path, seed, ANY, -1)
        go(worker)
        assert worker.stdout is not None
        until = dice.randrange(1, 30)
        done = -1
        while done < until:
            done = int(worker.stdout.readline())
        worker.send_signal(signal.SIGKILL)
        worker.communicate(timeout=60)
        assert worker.returncode == -signal.SIGKILL
        with LineCache(tmp_path, "1", ANY) as cache:
            for number in range(done + 1):
                assert None not in cache.get(worker_lines(seed, number))
            fill(cache, LINES)
            assert all(known(cache, LINES))
        with opened(tmp_path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not warnings(caplog)


def test_a_process_killed_in_the_middle_of_a_write(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from korlm.tokenizers.workers import line_cache as cache
        from korlm.tokenizers.analysis import EMPTY, to_record_batch
        opened = cache.LineCache(Path(sys.argv[1]), "1", 10)
        opened.put(["before"], to_record_batch([EMPTY]))
        cache._drop_oldest = lambda *_: os.kill(os.getpid(), 9)
        opened.put([str(number) for number in range(20_000)], to_record_batch([EMPTY] * 20_000))
        """
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    with LineCache(tmp_path, "1", ANY) as cache:
        assert cache.get(["before", "0", "19999"]) == [EMPTY, None, None]
        fill(cache, LINES)
        assert all(known(cache, LINES))
