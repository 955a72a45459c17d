"""A cache of analysed lines, shared by corpora and processes: Kkma reads no line twice.

    FOLDER/lines-<hash of version>.sqlite   one file for each version of the analyzer
    FOLDER/lines.lock                       held while a file is opened or removed

The key of a line is a hash of its text, the value its analysis, deflated, behind a checksum: what a
broken disk or a stranger left there is a miss and never a wrong token. Five rows of text:

    ok                  status
    0                   dropped
    00010               a step of eojeols for each morph: 0 the same as before, 1 the next, ... ~
    NNG JKS VV ...      tags, with tabs between them
    ...                 morphs, with tabs between them

Arrow makes these for a whole batch. Of 30 us to keep a line that takes 6, deflate 10 and SQLite 13
(nsmc-lm, 2026-11).

The cache can only save time: whatever happens to it, the run goes on, at worst without it. SQLite's
WAL lets many processes read while one writes and outlives a kill at any moment. It needs a local
disk: among several machines on one network folder its locks do not hold.

``map_cached`` puts the cache before a pool: only lines that it lacks reach the tokenizer.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import itertools
import logging
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import ANALYSIS, EMPTY, Analysis, to_record_batch
from korlm.tokenizers.workers.pool import Task, TokenizerPool
from korlm.utils.io.locks import held

logger = logging.getLogger(__name__)


Result = TypeVar("Result")


FORMAT = 2  # of the file; goes into its name


BUSY_SECONDS = 10.0  # a write takes milliseconds: who waits longer has met a process that hangs


FILLED = 0.9  # of the limit; above it, writing deletes old lines


KEYS = 500  # in one query: old versions of SQLite take 999 at most


TOUCHED = 5000  # lines in use that are noted in one go


LARGEST = 1 << 24  # bytes of one unpacked value; a hostile one could fill the memory


STATUS_CHARS = 200  # of a status; a longer one is none


FIRST_STEP, LAST_STEP = ord("0"), ord("~")


_STEP_OF = bytes(max(code - FIRST_STEP, 0) for code in range(256))


_STEPS = re.compile("[0-~]*")


_DROPPED = re.compile("[0-9]{1,10}")


# ``used`` is the number of the last run that asked for the line; ``length`` counts characters.
_SCHEMA = [
    "CREATE TABLE about (version TEXT, run INTEGER)",
    "CREATE TABLE lines (id INTEGER PRIMARY KEY, key BLOB UNIQUE, used INTEGER, length INTEGER, "
    "packed BLOB)",
    "CREATE INDEX oldest ON lines (used)",
]


# What deflate expects to see: Kkma's tags and frequent tokens, the most frequent ones last. Without
# it values are half as large again. Another list is another FORMAT.
_FREQUENT = (
    "NNP NR NNM NP OL OH ON UN EMO SE SO SS SW SP XPN XPV XR MAC MDN MDT IC VCN VXA VXV VCP JKI "
    "JKQ JKC JKM JKG JX JC EPP EPT EPH ETN ECS ECD EFA EFQ EFO EFI EFR XSN XSV XSA NNB VA ETD MAG "
    "JKS JKO ECE EFN SF VV NNG 습니다 네요 ㄴ데 는데 ㅂ니다 던 으로 라 며 하고 ! ? 아 ㄹ 기 보 것 "
    "영화 있 없 되 도 에 로 은 를 을 게 이 는 ㄴ 었 았 지 어 의 가 다 . 고 하"
)


_DICTIONARY = ("lost: 1 characters\n" + "\t".join(_FREQUENT.split()) + "\nok\n0\n0010010").encode()


class LineCache:
    """What an analyzer made of single lines. For one thread of a process; a context manager.

    No method raises for what befalls the file. One that is damaged is begun anew; a full disk, a
    folder that cannot be written or a file that stays locked end the use of the cache. Either way
    one warning says so, and lines are misses.

    Args:
        folder: where the files lie; made if need be.
        version: of the analyzer; what another version made is never given.
        limit_mb: for all files of the folder, in MiB; a few more while they are open (the WAL). The
            lines used least recently give way, other versions first. 0: no cache.

    >>> import tempfile
    >>> from korlm.tokenizers.analysis import to_record_batch
    >>> with tempfile.TemporaryDirectory() as folder, LineCache(Path(folder), "1", 10) as cache:
    ...     cache.put(["간다"], to_record_batch([Analysis(["가", "ㄴ다"], ["VV", "EFN"], [0, 0])]))
    ...     [found and found.morphs for found in cache.get(["간다", "온다"])]
    [['가', 'ㄴ다'], None]
    """

    def __init__(self, folder: Path, version: str, limit_mb: int) -> None:
        name = hashlib.blake2b(f"{FORMAT} {version}".encode(), digest_size=8).hexdigest()
        self.hits = 0
        self.misses = 0
        self._path = folder / f"lines-{name}.sqlite"
        self._version = version
        self._limit = limit_mb << 20
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)  # device and number of the open file, which may lose its name
        self._run = 0
        self._touched: list[bytes] = []
        self._begun_anew = False
        if limit_mb > 0:
            try:
                self._open()
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
            self._with(self._shrink)

    def __enter__(self) -> LineCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def get(self, texts: Sequence[str]) -> list[Analysis | None]:
        """The analysis of each line (NFC), None where there is none."""
        keys = [_key(text) for text in texts]
        rows = self._with(lambda connection: _select(connection, dict.fromkeys(keys))) or {}
        found = [
            _unpack(key, len(text), *rows[key][1:]) if key in rows else None
            for text, key in zip(texts, keys, strict=True)
        ]
        hits = [key for key, analysis in zip(keys, found, strict=True) if analysis is not None]
        self._touched += [key for key in hits if rows[key][0] != self._run]
        if len(self._touched) >= TOUCHED:
            self._with(self._touch)
        self.hits += len(hits)
        self.misses += len(texts) - len(hits)
        return found

    def put(self, texts: Sequence[str], columns: pa.RecordBatch) -> None:
        """Keeps the analysis of each line (NFC), but for its ``seconds``; all at once or none.

        Left out are lines that no value can hold: those with a tab or a line break in a token or
        the status, without order among their eojeols, or far too long.

        Args:
            texts: the lines.
            columns: ``korlm.tokenizers.analysis.ANALYSIS``, a row for each line.
        """
        if len(texts) != columns.num_rows:
            raise ValueError(f"{len(texts)} lines, but {columns.num_rows} analyses")
        if self._connection is None:
            return
        rows = []
        for text, raw in zip(texts, _plain(columns), strict=True):
            if raw is not None:
                key = _key(text)
                rows.append((key, len(text), _pack(key, raw)))
        self._with(lambda connection: self._put(connection, rows))

    def close(self) -> None:
        """Notes which lines were in use and lets go of the file; a second call does nothing."""
        if self._touched:
            self._with(self._touch)
        self._disconnect()

    # The connection

    def _open(self) -> None:
        """Connects; a file that is no cache of this version makes way for a new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(self._path):
            try:
                self._connection = self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                logger.warning("%s is damaged (%s): begun anew", self._path, error)
                _remove(self._path)
                self._connection = self._connect()
            stat = self._path.stat()
            self._file = (stat.st_dev, stat.st_ino)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.text_factory = bytes  # a damaged text would be an error like any other
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA journal_size_limit=4194304")
            with _transaction(connection):
                self._begin_run(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin_run(self, connection: sqlite3.Connection) -> None:
        """Makes the tables of a new file, checks those of an old one, counts the run."""
        found = [
            sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master ORDER BY rowid")
        ]
        if not found:
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO about VALUES (?, 0)", (self._version,))
        elif [sql for sql in found if sql is not None] != [sql.encode() for sql in _SCHEMA]:
            raise sqlite3.DatabaseError("its tables are not those of the cache")
        connection.execute("UPDATE about SET run = run + 1")
        rows = connection.execute("SELECT version, run FROM about").fetchall()
        if [version for version, _ in rows] != [self._version.encode()]:
            raise sqlite3.DatabaseError("it belongs to another version")
        self._run = rows[0][1]

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
        self._touched = []

    def _with(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """What ``work`` gives; None if there is no connection or it failed."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            if _is_damage(error) and not self._begun_anew:
                self._begin_anew(error)
            else:
                self._give_up(error)
        return None

    def _begin_anew(self, damage: Exception) -> None:
        """Removes the open file, unless another process has done so already."""
        self._begun_anew = True
        self._disconnect()
        logger.warning("%s is damaged (%s): begun anew", self._path, damage)
        try:
            with _lock(self._path), contextlib.suppress(FileNotFoundError):
                stat = self._path.stat()
                if (stat.st_dev, stat.st_ino) == self._file:
                    _remove(self._path)
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._disconnect()
        logger.warning(
            "%s cannot be used (%s): the run goes on without a cache of lines", self._path, error
        )

    # Writing

    def _put(self, connection: sqlite3.Connection, rows: list[tuple[bytes, int, bytes]]) -> None:
        limit = self._allowance(connection, coming=sum(100 + len(packed) for *_, packed in rows))
        with _transaction(connection):
            self._note_touched(connection)
            connection.executemany(
                "INSERT OR REPLACE INTO lines (key, used, length, packed) VALUES (?, ?, ?, ?)",
                [(key, self._run, length, packed) for key, length, packed in rows],
            )
            while _drop_oldest(connection, limit, 2 * len(rows)):
                pass

    def _touch(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            self._note_touched(connection)

    def _note_touched(self, connection: sqlite3.Connection) -> None:
        # Runs at the same time share the latest number: else the first one's lines would go first.
        (self._run,) = connection.execute("SELECT max(run) FROM about").fetchone()
        connection.executemany(
            "UPDATE lines SET used = ? WHERE key = ?", [(self._run, key) for key in self._touched]
        )
        self._touched = []

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Brings a file from under a larger limit within this one, letting others in between."""
        limit = self._allowance(connection, coming=0)
        more = _number(connection, "page_count") > limit
        while more:
            with _transaction(connection):
                more = _drop_oldest(connection, limit, 5000)

    def _allowance(self, connection: sqlite3.Connection, coming: int) -> int:
        """How many pages this file may have: what other versions leave, which give way first.

        Args:
            connection: to this file.
            coming: bytes that it is about to grow by.
        """
        size = _number(connection, "page_size")
        mine = _filled(connection) * size + coming
        others = [
            (*_age_and_size(path), path)
            for path in self._path.parent.glob("lines-*.sqlite")
            if path.name != self._path.name
        ]
        total = sum(bytes_ for _, bytes_, _ in others)
        for _, bytes_, path in sorted(others):
            if mine + total <= self._limit:
                break
            if _remove_unused(path):
                total -= bytes_
        return (self._limit - total) // size


# One value


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _plain(columns: pa.RecordBatch) -> list[bytes | None]:
    """The values of lines before they are packed; None for a line that no value can hold."""
    morphs, tags, eojeol, status, dropped, _ = columns.columns
    lengths = pc.list_value_length(morphs)
    steps, in_order = _steps(eojeol)
    # Arrow's joins are null as soon as something in them is.
    whole = pc.binary_join_element_wise(
        status,
        dropped.cast(pa.string()),
        steps,
        pc.binary_join(tags, "\t"),
        pc.binary_join(morphs, "\t"),
        "\n",
    )
    tabs = pc.max_element_wise(pc.subtract(lengths, 1), 0)
    sane = [told for told in pc.unique(status).to_pylist() if told and _is_sane(told)]
    fits = [
        in_order,
        pc.equal(lengths, pc.list_value_length(tags)),
        pc.equal(lengths, pc.list_value_length(eojeol)),
        pc.is_in(status, value_set=pa.array(sane, pa.string())),
        pc.greater_equal(dropped, 0),
        # No token holds a separator.
        pc.equal(pc.count_substring(whole, "\t"), pc.multiply(tabs, 2)),
        pc.equal(pc.count_substring(whole, "\n"), 4),
        pc.less_equal(pc.binary_length(whole), LARGEST),
    ]
    keep = functools.reduce(pc.and_, fits)
    found: list[bytes | None] = pc.if_else(keep, whole.cast(pa.binary()), None).to_pylist()
    return found


def _steps(eojeol: pa.ListArray) -> tuple[pa.StringArray, pa.BooleanArray]:
    """A character a morph for each line, and whether such characters can tell all its steps."""
    lengths = pc.fill_null(pc.list_value_length(eojeol), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    flat = pc.fill_null(eojeol.flatten(), -1).to_numpy()
    steps = np.diff(flat, prepend=0)
    starts = offsets[:-1][lengths > 0]
    steps[starts] = flat[starts]
    odd = (steps < 0) | (steps > LAST_STEP - FIRST_STEP)
    odd_before = np.concatenate([[0], np.cumsum(odd)])
    chars = np.where(odd, FIRST_STEP, FIRST_STEP + steps).astype(np.uint8)
    strings = pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(chars))
    return strings, pa.array(odd_before[offsets[1:]] == odd_before[offsets[:-1]])


def _is_sane(status: str) -> bool:
    return 0 < len(status) <= STATUS_CHARS and status.isprintable()


def _pack(key: bytes, raw: bytes) -> bytes:
    """A value as bytes that fit this key alone."""
    # A small window: with the usual one, getting the memory takes five times as long as packing.
    packer = zlib.compressobj(1, zlib.DEFLATED, -12, 5, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    body = packer.compress(raw) + packer.flush()
    return _checksum(key, body) + body


def _unpack(key: bytes, length: int, stored_length: Any, packed: Any) -> Analysis | None:
    """The analysis that was packed; None if it is damaged or of another line."""
    if stored_length != length or not isinstance(packed, bytes):
        return None
    body = packed[4:]
    if packed[:4] != _checksum(key, body):
        return None
    # A checksum keeps out accidents, not strangers: nothing that follows trusts the value.
    unpacker = zlib.decompressobj(-12, _DICTIONARY)
    try:
        raw = unpacker.decompress(body, LARGEST)
        status, dropped, steps, tags, morphs = raw.decode().split("\n")
    except (zlib.error, ValueError):
        return None
    if not (unpacker.eof and _is_sane(status)):
        return None
    if not (_DROPPED.fullmatch(dropped) and _STEPS.fullmatch(steps)):
        return None
    if not (tags.count("\t") == morphs.count("\t") == max(len(steps) - 1, 0)):
        return None
    if int(dropped) >= 1 << 31 or (not steps and tags + morphs):
        return None
    return Analysis(
        morphs=morphs.split("\t") if steps else [],
        tags=tags.split("\t") if steps else [],
        # Never beyond 32 bits: LARGEST times the largest step is less.
        eojeol=list(itertools.accumulate(steps.encode().translate(_STEP_OF))),
        status=status,
        dropped=int(dropped),
    )


def _checksum(key: bytes, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(key)).to_bytes(4, "big")


# SQLite


def _is_damage(error: Exception) -> bool:
    """Whether the file is at fault (corrupt, no database): all else has a class of its own."""
    return type(error) is sqlite3.DatabaseError


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _select(
    connection: sqlite3.Connection, keys: Iterable[bytes]
) -> dict[bytes, tuple[Any, Any, Any]]:
    """For every key that is there: used, length, packed."""
    rows: dict[bytes, tuple[Any, Any, Any]] = {}
    left = iter(keys)
    while chunk := list(itertools.islice(left, KEYS)):
        marks = ",".join("?" * len(chunk))
        query = f"SELECT key, used, length, packed FROM lines WHERE key IN ({marks})"
        rows.update((row[0], row[1:]) for row in connection.execute(query, chunk).fetchall())
    return rows


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)


def _drop_oldest(connection: sqlite3.Connection, limit: int, count: int) -> bool:
    """Deletes old lines from a file that is nearly full; cuts it to its limit.

    Args:
        connection: in a transaction.
        limit: pages that the file may have.
        count: lines after which to stop, so that a transaction does not take long.

    Returns:
        Whether the file is still over its limit and another call can help.
    """
    deleted = last = 0
    while (filled := _filled(connection)) > FILLED * limit and deleted < count:
        oldest = "SELECT id FROM lines ORDER BY used, id LIMIT 50"
        last = connection.execute(f"DELETE FROM lines WHERE id IN ({oldest})").rowcount
        if last == 0:
            break
        deleted += last
    # One by one: of more at once, Python takes only the first step.
    for _ in range(
        min(_number(connection, "page_count") - limit, _number(connection, "freelist_count"))
    ):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return filled > limit and last > 0


def _filled(connection: sqlite3.Connection) -> int:
    """Pages of the file that hold something."""
    return _number(connection, "page_count") - _number(connection, "freelist_count")


# Files


def _lock(path: Path) -> contextlib.AbstractContextManager[None]:
    return held(path.parent / "lines.lock", timeout=BUSY_SECONDS)


def _parts(path: Path) -> list[Path]:
    """A database and what SQLite lays beside it; the latter goes first, it must outlive nothing."""
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "")]


def _remove(path: Path) -> None:
    for part in _parts(path):
        part.unlink(missing_ok=True)


def _age_and_size(path: Path) -> tuple[float, int]:
    """When a database was last written (each run writes), and its bytes."""
    stats = []
    for part in _parts(path):
        with contextlib.suppress(OSError):
            stats.append(part.stat())
    return max((s.st_mtime for s in stats), default=0.0), sum(s.st_size for s in stats)


def _remove_unused(path: Path) -> bool:
    """Removes the file of another version unless a process has it open."""
    with _lock(path):
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")  # only its sole user can do that
        except sqlite3.OperationalError:
            return False
        except sqlite3.DatabaseError:
            pass  # damaged: of no use to anybody
        _remove(path)
    return True


# What another run, with more time or on another machine, might do better is not kept.
_KEPT = ("ok", "lost", "cut: over budget", "fallback: over budget")


@dataclass
class _Batch:
    """A batch on its way: what is known of its lines, and those that were sent to the pool."""

    texts: Sequence[str]
    known: dict[str, Analysis] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)  # empty: nothing of it is left to do

    def columns(self, new: pa.RecordBatch | None = None) -> pa.RecordBatch:
        """All lines, in order; the time that a line took stands at the first one of its kind.

        Args:
            new: what the pool made of the lines that were sent.
        """
        if len(self.sent) == len(self.texts) and new is not None:
            return new
        parts = [to_record_batch(list(self.known.values()))]
        if new is not None:
            parts.append(new)
        rows = {text: row for row, text in enumerate(itertools.chain(self.known, self.sent))}
        at = np.fromiter((rows[text] for text in self.texts), np.int64, len(self.texts))
        columns = [
            pa.concat_arrays([part.column(name) for part in parts]).take(pa.array(at))
            for name in ANALYSIS.names
        ]
        first = np.zeros(len(at), dtype=bool)
        first[np.unique(at, return_index=True)[1]] = True
        columns[-1] = pc.if_else(pa.array(first), columns[-1], pa.scalar(0, pa.float32()))
        return pa.RecordBatch.from_arrays(columns, schema=ANALYSIS)


def map_cached(
    pool: TokenizerPool, cache: LineCache, batches: Iterable[Task]
) -> Iterator[pa.RecordBatch]:
    """``pool.map``, but equal lines are analysed once, and those that the cache has not at all.

    Args:
        pool: what analyses the rest.
        cache: of its very tokenizer.
        batches: of lines (NFC), or their columns.
    """
    waiting: collections.deque[_Batch] = collections.deque()

    def unknown() -> Iterator[Task]:
        for texts in batches:
            if isinstance(texts, pa.RecordBatch):
                waiting.append(_Batch([]))
                yield texts
                continue
            batch = _look_up(cache, texts)
            waiting.append(batch)
            yield batch.sent or batch.columns()

    for columns in pool.map(unknown()):
        batch = waiting.popleft()
        if not batch.sent:
            yield columns
            continue
        assert columns.num_rows == len(batch.sent)
        keep = functools.reduce(
            pc.or_, (pc.starts_with(columns["status"], pattern=kind) for kind in _KEPT)
        )
        cache.put(list(itertools.compress(batch.sent, keep.to_pylist())), columns.filter(keep))
        yield batch.columns(columns)


def _look_up(cache: LineCache, texts: Sequence[str]) -> _Batch:
    batch = _Batch(texts)
    written = []
    for text in dict.fromkeys(texts):
        if is_blank(text):
            batch.known[text] = EMPTY
        else:
            written.append(text)
    for text, found in zip(written, cache.get(written), strict=True):
        if found is None:
            batch.sent.append(text)
        else:
            batch.known[text] = found
    return batch
