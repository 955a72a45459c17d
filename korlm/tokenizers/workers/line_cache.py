"""Cache analyzed lines on disk, for all corpora, tokenizer versions and processes.

``FOLDER/lines-v3.sqlite`` has one table. The key is a hash of the tokenizer version and the line;
the value is a checksum and the line's analysis as deflated text:

    ok                  status
    0                   dropped
    0 0 1 ...           eojeol index of each morph
    NNG JKS VV ...      tags, separated by tabs
    ...                 morphs, separated by tabs

The cache only saves time. A file that is damaged or over its size limit is emptied as a whole;
after any other error the run continues without a cache. Values are checked when they are read: a
damaged one is a miss. In WAL mode, readers and one writer work at the same time, and a killed
process leaves a consistent file. SQLite's locks need a local disk.
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
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import analyses_of, list_rows, to_record_batch
from korlm.tokenizers.workers.pool import Lines, TokenizerPool
from korlm.utils.io.locks import file_lock

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

FILE = "lines-v3.sqlite"  # to be renumbered whenever the table or its values change
BUSY_SECONDS = 10.0  # longest wait for another process, whose transactions take milliseconds
KEYS = 500  # keys per query; old versions of SQLite allow 999
PAGE = 4096  # size of a page of the file in bytes
MAX_BYTES = 1 << 24  # largest decompressed value; a forged one could fill the memory
MAX_INT = 1 << 31  # eojeol and dropped are 32-bit integers
MAX_STATUS = 200  # largest number of characters of a status

_SCHEMA = "CREATE TABLE lines (key BLOB PRIMARY KEY, value BLOB)"

# Statuses of analyses that would be the same with more time or on another machine; also "lost: N".
_REPRODUCIBLE = ("ok", "cut: over budget", "fallback: over budget")


class LineCache:
    """A persistent map from lines to their analyses, for one thread; a context manager.

    No method raises an error because of the file. A file that is found damaged when it is opened is
    recreated. Later damage, after which the file is deleted, a full disk, a read-only folder or a
    file that stays locked disables the cache: all lines are misses. Each is logged as a warning.

    Args:
        folder: folder of the file; created if missing.
        version: version of the tokenizer; results of other versions are never returned.
        limit_mb: size limit of the file in MiB, without the WAL of an open file. When the file
            reaches it, all lines are deleted. 0: no cache.

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
        if limit_mb > 0:
            self._open()
            self._try(self._shrink)

    def __enter__(self) -> LineCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def get(self, texts: Sequence[str]) -> list[Analysis | None]:
        """Return the analysis of each line, or None if the cache does not have it."""
        keys = [self._key(text) for text in texts]
        values = self._try(lambda connection: _select(connection, keys)) or {}
        results = [_decode(key, values.get(key)) for key in keys]
        misses = results.count(None)
        self.hits += len(texts) - misses
        self.misses += misses
        return results

    def put(self, texts: Sequence[str], columns: pa.RecordBatch) -> None:
        """Store the analyses of lines without their ``seconds``, in one transaction.

        Lines with a tab or a line break in a token or status are skipped.
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
        """Connect to the file, recreate it if it is damaged, or disable the cache."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock():
                for old in self._path.parent.glob("lines-*.sqlite*"):  # files of other formats
                    if not old.name.startswith(FILE):
                        old.unlink()
                try:
                    self._connection = _connect(self._path)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    logger.warning(
                        "line cache %s is damaged (%s): recreating it", self._path, error
                    )
                    self._delete()
                    self._connection = _connect(self._path)
                self._file_id = _file_id(self._path)
        except (sqlite3.Error, OSError) as error:
            self._disable(error)

    def _try(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Return the result of ``work``; None after an error or without a connection."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._disable(error)
            return None

    def _disable(self, error: sqlite3.Error | OSError) -> None:
        if _is_damage(error):
            with contextlib.suppress(OSError), self._lock():
                # Compared while the file is open: its inode number cannot be that of a new file.
                if self._file_id == _file_id(self._path):  # no other process has recreated it
                    self.close()
                    self._delete()
        self.close()
        logger.warning("line cache %s disabled: %s", self._path, error)

    def _delete(self) -> None:
        """Delete the file; the lock is held.

        The database itself is deleted last, so that no process can find the log of a deleted
        database beside a new one.
        """
        for ending in ("-wal", "-shm", ""):
            self._path.with_name(FILE + ending).unlink(missing_ok=True)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return file_lock(self._path.with_name("lines.lock"), timeout=BUSY_SECONDS)

    def _insert(self, connection: sqlite3.Connection, rows: list[tuple[bytes, bytes]]) -> None:
        # At most half of a page is left empty, where a value does not fit in any more.
        num_bytes = sum(200 + 2 * len(value) for _, value in rows)
        with connection:  # commits, or rolls back after an error
            connection.execute("BEGIN IMMEDIATE")
            if self._is_full(connection, num_bytes):
                connection.execute("DELETE FROM lines")  # the file keeps its pages for new lines
                if self._is_full(connection, num_bytes):
                    return  # they alone are too large
            connection.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?)", rows)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Empty a file that was filled under a larger limit."""
        if self._is_full(connection, 0):
            connection.execute("DELETE FROM lines")
        if connection.execute("PRAGMA page_count").fetchone()[0] * PAGE > self._limit:
            connection.execute("VACUUM")

    def _is_full(self, connection: sqlite3.Connection, num_bytes: int) -> bool:
        """Return True if the file would exceed its limit with this many more bytes."""
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        return bool((pages - free) * PAGE + num_bytes > self._limit)


def _encode(
    key: bytes, status: str, dropped: int, eojeol: list[int], tags: str, morphs: str
) -> bytes | None:
    """Return the value of an analysis; its checksum includes the key.

    None: a token or the status contains a separator, or the value is too large.
    """
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
    """Return the analysis of a value; None if it is damaged, forged or that of another key."""
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
    """Return True if the fields of an analysis are consistent, and valid in ``ANALYSIS``."""
    eojeol = analysis.eojeol
    return (
        len(analysis.morphs) == len(analysis.tags) == len(eojeol)
        and eojeol == sorted(eojeol)
        and (not eojeol or 0 <= eojeol[0] <= eojeol[-1] < MAX_INT)
        and 0 <= analysis.dropped < MAX_INT
        and 0 < len(analysis.status) <= MAX_STATUS
        and analysis.status.isprintable()
    )


def _file_id(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _is_damage(error: sqlite3.Error | OSError) -> bool:
    """Return True if a file is damaged; SQLite raises subclasses of DatabaseError otherwise."""
    return type(error) is sqlite3.DatabaseError


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.text_factory = bytes  # damaged text must not raise when it is decoded
        connection.execute(f"PRAGMA page_size={PAGE}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA journal_size_limit=4194304")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            # Also a test that the file can be written.
            connection.execute(_SCHEMA.replace("TABLE", "TABLE IF NOT EXISTS", 1))
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL").fetchall()
        if schema != [(_SCHEMA.encode(),)]:  # a foreign trigger, for one
            raise sqlite3.DatabaseError("unexpected tables")
    except BaseException:
        connection.close()
        raise
    return connection


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
    pool: TokenizerPool, cache: LineCache, batches: Iterable[Lines]
) -> Iterator[pa.RecordBatch]:
    """Yield what ``pool.map`` would yield, but analyze only lines that the cache lacks, once each.

    The first occurrence of a line in a batch has the time that the line took, the others 0.

    ``batches`` are lines (NFC), or record batches, which are passed through.
    """
    # For each batch in the pool: its lines, line -> analysis from the cache, lines in the pool.
    waiting: collections.deque[tuple[Sequence[str], dict[str, Analysis], list[str]]]
    waiting = collections.deque()

    def misses() -> Iterator[Lines]:
        for texts in batches:
            if isinstance(texts, pa.RecordBatch):
                waiting.append(([], {}, []))
                yield texts
                continue
            unique = dict.fromkeys(texts)
            cached = {text: EMPTY for text in unique if is_blank(text)}
            non_blank = [text for text in unique if text not in cached]
            results = zip(non_blank, cache.get(non_blank), strict=True)
            cached.update((text, analysis) for text, analysis in results if analysis is not None)
            missing = [text for text in non_blank if text not in cached]
            waiting.append((texts, cached, missing))
            yield missing or _columns(texts, cached)

    for columns in pool.map(misses()):
        texts, cached, missing = waiting.popleft()
        if missing:
            final = [
                status in _REPRODUCIBLE or status.startswith("lost")
                for status in columns["status"].to_pylist()
            ]
            cache.put(list(itertools.compress(missing, final)), columns.filter(pa.array(final)))
            if len(missing) < len(texts):
                new = zip(missing, analyses_of(columns), strict=True)
                columns = _columns(texts, {**cached, **dict(new)})
        yield columns


def _columns(texts: Iterable[str], analyses: dict[str, Analysis]) -> pa.RecordBatch:
    """Return one row per line; only the first occurrence of a line has its time."""
    rows, analyses = [], dict(analyses)
    for text in texts:
        rows.append(analyses[text])
        analyses[text] = analyses[text]._replace(seconds=0.0)
    return to_record_batch(rows)
