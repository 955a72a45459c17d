"""A cache of analyzed lines on disk, shared by all corpora, tokenizer versions and processes.

``FOLDER/lines-v3.sqlite`` has one table. The key is a hash of the tokenizer version and the line,
the value its analysis as deflated text behind a checksum:

    ok                  status
    0                   dropped
    0 0 1 ...           eojeol index of each morph
    NNG JKS VV ...      tags, separated by tabs
    ...                 morphs, separated by tabs

The cache only saves time. A file that is damaged or over its size limit is emptied as a whole;
after any other error the run continues without a cache. Values are checked when they are read: a
damaged or forged one is a miss. In WAL mode, readers and one writer work at the same time, and a
killed process leaves a consistent file. SQLite's locks need a local disk.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import itertools
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import analyses_of, list_rows, to_record_batch
from korlm.tokenizers.workers.pool import Task, TokenizerPool
from korlm.utils.io.locks import held

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FILE = "lines-v3.sqlite"  # another layout of the table or its values needs another number
BUSY_SECONDS = 10.0  # to wait for another process, whose transactions take milliseconds
KEYS = 500  # per query; old versions of SQLite allow 999
PAGE = 4096  # bytes
MAX_BYTES = 1 << 24  # of one decompressed value; a forged one could fill the memory
MAX_INT = 1 << 31  # eojeol and dropped are 32-bit integers
MAX_STATUS = 200  # characters

_SCHEMA = "CREATE TABLE lines (key BLOB PRIMARY KEY, value BLOB)"

# Statuses that another run, with more time or on another machine, could not improve on.
_FINAL = ("ok", "lost", "cut: over budget", "fallback: over budget")


class LineCache:
    """A persistent map from lines to their analyses. For one thread; a context manager.

    No method raises on errors of the file. A damaged file is deleted and recreated once; a full
    disk, a read-only folder or a file that stays locked disables the cache. Either is logged as
    one warning, and lines are misses.

    Args:
        folder: of the file; created if missing.
        version: of the tokenizer; results of other versions are never returned.
        limit_mb: size limit of the file in MiB (the WAL of open files comes on top). When it is
            reached, all lines are deleted. 0: no cache.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, LineCache(Path(folder), "1", 10) as cache:
    ...     cache.put(["간다"], to_record_batch([Analysis(["가", "ㄴ다"], ["VV", "EFN"], [0, 0])]))
    ...     [result and result.morphs for result in cache.get(["간다", "온다"])]
    [['가', 'ㄴ다'], None]
    """

    def __init__(self, folder: Path, version: str, limit_mb: int) -> None:
        self.hits = 0
        self.misses = 0
        self._path = folder / FILE
        self._version = hashlib.blake2b(version.encode()).digest()
        self._limit = limit_mb << 20
        self._connection: sqlite3.Connection | None = None
        self._file_id = (0, 0)  # device and inode of the open file
        self._recreated = False
        if limit_mb > 0:
            self._open()
            self._try(self._shrink)

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
        """Return the analysis of each line (NFC), None where there is none."""
        keys = [self._key(text) for text in texts]
        values = self._try(lambda connection: _select(connection, keys)) or {}
        results = [_decode(key, values.get(key)) for key in keys]
        misses = results.count(None)
        self.hits += len(texts) - misses
        self.misses += misses
        return results

    def put(self, texts: Sequence[str], columns: pa.RecordBatch) -> None:
        """Store the analyses of lines (NFC) without their ``seconds``, in one transaction.

        Lines with a tab or a line break in a token or status are skipped.

        Args:
            texts: the lines.
            columns: ``korlm.tokenizers.analysis.ANALYSIS``, one row per line.
        """
        if self._connection is None:
            return
        fields = (
            columns["status"].to_pylist(),
            columns["dropped"].to_pylist(),
            list_rows(columns["eojeol"]),
            pc.binary_join(columns["tags"], "\t").to_pylist(),
            pc.binary_join(columns["morphs"], "\t").to_pylist(),
        )
        rows = []
        for text, *row in zip(texts, *fields, strict=True):
            key = self._key(text)
            value = _encode(key, *row)
            if value is not None:
                rows.append((key, value))
        self._try(lambda connection: self._insert(connection, rows))

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _key(self, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16, key=self._version).digest()

    def _open(self) -> None:
        """Connect to the file, or disable the cache."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                for old in self._path.parent.glob("lines-*.sqlite*"):  # of other formats
                    if not old.name.startswith(FILE):
                        old.unlink()
                self._connection = _connect(self._path)
                self._file_id = _file_id(self._path)
        except (sqlite3.Error, OSError) as error:
            self._recover(error)

    def _try(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Return the result of ``work``; None after an error or without a connection."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._recover(error)
            return None

    def _recover(self, error: sqlite3.Error | OSError) -> None:
        """Recreate a damaged file once; disable the cache after any other error."""
        self.close()
        # SQLite raises subclasses for everything but corrupt files and files of another kind.
        if type(error) is not sqlite3.DatabaseError or self._recreated:
            logger.warning("line cache %s disabled: %s", self._path, error)
            return
        self._recreated = True
        logger.warning("line cache %s is damaged (%s): recreating it", self._path, error)
        with contextlib.suppress(OSError), self._lock():
            # Another process may have recreated it. The database itself goes last, so that
            # no process can find the log of a deleted file beside a new one.
            if self._file_id in ((0, 0), _file_id(self._path)):
                for ending in ("-wal", "-shm", ""):
                    self._path.with_name(FILE + ending).unlink(missing_ok=True)
        self._open()

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return held(self._path.with_name("lines.lock"), timeout=BUSY_SECONDS)

    def _insert(self, connection: sqlite3.Connection, rows: list[tuple[bytes, bytes]]) -> None:
        with _transaction(connection):
            if self._is_full(connection, sum(100 + len(value) for _, value in rows)):
                connection.execute("DELETE FROM lines")  # the free pages are used again
            connection.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?)", rows)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Empty a file that was filled under a larger limit."""
        if self._is_full(connection, 0):
            connection.execute("DELETE FROM lines")
        if connection.execute("PRAGMA page_count").fetchone()[0] * PAGE > self._limit:
            connection.execute("VACUUM")

    def _is_full(self, connection: sqlite3.Connection, num_bytes: int) -> bool:
        """Return whether the file would exceed its limit with this many more bytes."""
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        return bool((pages - free) * PAGE + num_bytes > self._limit)


def _encode(
    key: bytes, status: str, dropped: int, eojeol: list[int], tags: str, morphs: str
) -> bytes | None:
    """Return the value of an analysis, valid for this key only; None if tokens have separators."""
    text = f"{status}\n{dropped}\n{' '.join(map(str, eojeol))}\n{tags}\n{morphs}"
    data = text.encode()
    tabs = 2 * max(len(eojeol) - 1, 0)
    if text.count("\n") != 4 or text.count("\t") != tabs or len(data) > MAX_BYTES:
        return None
    # A window of 4 kB: allocating the default one takes longer than compressing a line.
    compressor = zlib.compressobj(1, zlib.DEFLATED, -12, 5)
    body = compressor.compress(data) + compressor.flush()
    return zlib.crc32(body, zlib.crc32(key)).to_bytes(4, "big") + body


def _decode(key: bytes, value: Any) -> Analysis | None:
    """Return the analysis of a value; None if the value is damaged, forged or of another key."""
    if not isinstance(value, bytes):
        return None
    body = value[4:]
    if value[:4] != zlib.crc32(body, zlib.crc32(key)).to_bytes(4, "big"):
        return None
    decompressor = zlib.decompressobj(-12)
    try:
        raw = decompressor.decompress(body, MAX_BYTES)
        status, dropped, eojeol, tags, morphs = raw.decode().split("\n")
        analysis = Analysis(
            morphs.split("\t") if eojeol else [],
            tags.split("\t") if eojeol else [],
            list(map(int, eojeol.split())),
            status,
            int(dropped),
        )
    except (zlib.error, ValueError):
        return None
    return analysis if decompressor.eof and _is_valid(analysis) else None


def _is_valid(analysis: Analysis) -> bool:
    """Return whether the parts of an analysis agree and fit the columns of ``ANALYSIS``."""
    eojeol = analysis.eojeol
    return (
        len(analysis.morphs) == len(analysis.tags) == len(eojeol)
        and eojeol == sorted(eojeol)
        and (not eojeol or 0 <= eojeol[0] <= eojeol[-1] < MAX_INT)
        and 0 <= analysis.dropped < MAX_INT
        and 0 < len(analysis.status) <= MAX_STATUS
        and analysis.status.isprintable()
    )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.text_factory = bytes  # damaged text must not raise when it is decoded
        connection.execute(f"PRAGMA page_size={PAGE}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA journal_size_limit=4194304")
        with _transaction(connection):
            # Also a test that the file can be written.
            connection.execute(_SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS", 1))
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL").fetchall()
        if schema != [(_SCHEMA.encode(),)]:  # a foreign trigger, for one
            raise sqlite3.DatabaseError("unexpected tables")
    except BaseException:
        connection.close()
        raise
    return connection


def _file_id(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


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


def _select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Any]:
    """Return the values of all keys that the table has."""
    values: dict[bytes, Any] = {}
    for begin in range(0, len(keys), KEYS):
        chunk = keys[begin : begin + KEYS]
        marks = ",".join("?" * len(chunk))
        query = f"SELECT key, value FROM lines WHERE key IN ({marks})"
        values.update(connection.execute(query, chunk).fetchall())
    return values


def map_cached(
    pool: TokenizerPool, cache: LineCache, batches: Iterable[Task]
) -> Iterator[pa.RecordBatch]:
    """Yield what ``pool.map`` would; only the lines that the cache lacks are analyzed, once each.

    The time that a line took is counted for its first occurrence in a batch.

    Args:
        pool: the tokenizer of the remaining lines.
        cache: of the version of this tokenizer.
        batches: lines (NFC), or record batches, which are passed through.
    """
    # For each batch in the pool: its lines, the analyses from the cache, the lines in the pool.
    waiting: collections.deque[tuple[Sequence[str], dict[str, Analysis], list[str]]]
    waiting = collections.deque()

    def misses() -> Iterator[Task]:
        for texts in batches:
            if isinstance(texts, pa.RecordBatch):
                waiting.append(([], {}, []))
                yield texts
                continue
            unique = dict.fromkeys(texts)
            cached = {text: EMPTY for text in unique if is_blank(text)}
            written = [text for text in unique if text not in cached]
            results = zip(written, cache.get(written), strict=True)
            cached.update((text, analysis) for text, analysis in results if analysis is not None)
            missing = [text for text in written if text not in cached]
            waiting.append((texts, cached, missing))
            yield missing or _columns(texts, cached)

    for columns in pool.map(misses()):
        texts, cached, missing = waiting.popleft()
        if missing:
            final = [status.startswith(_FINAL) for status in columns["status"].to_pylist()]
            cache.put(list(itertools.compress(missing, final)), columns.filter(pa.array(final)))
            if len(missing) < len(texts):
                new = zip(missing, analyses_of(columns), strict=True)
                columns = _columns(texts, {**cached, **dict(new)})
        yield columns


def _columns(texts: Iterable[str], analyses: dict[str, Analysis]) -> pa.RecordBatch:
    """Return one row per line; repetitions of a line took no time."""
    rows, left = [], dict(analyses)
    for text in texts:
        rows.append(left[text])
        left[text] = left[text]._replace(seconds=0.0)
    return to_record_batch(rows)
