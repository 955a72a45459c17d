"""Cache analyzed lines on disk, for all corpora, tokenizer versions and processes.

``FOLDER/lines-v4.sqlite`` has one table. The key is a hash of the tokenizer version and the line;
the value is the key again and the line's analysis as compressed JSON. The cache only saves time:
after any error of the file the run continues without it, and a damaged value is a miss.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import EMPTY, Analysis
from korlm.tokenizers.columns import analyses_of, to_record_batch
from korlm.tokenizers.workers.pool import Lines, TokenizerPool

logger = logging.getLogger(__name__)

FILE = "lines-v4.sqlite"  # to be renumbered whenever the table or its values change
BUSY_SECONDS = 10.0  # longest wait for another process, whose transactions take milliseconds
KEYS = 500  # keys per query; old versions of SQLite allow 999
PAGE = 4096  # size of a page of the file in bytes

# Statuses of analyses that would be the same with more time or on another machine; also "lost: N".
_REPRODUCIBLE = ("ok", "cut: over budget", "fallback: over budget")


class LineCache:
    """A persistent map from lines to their analyses, for one thread; a context manager.

    No method raises an error because of the file. A damaged or locked file, a full disk or a
    read-only folder costs one warning; then all lines are misses. The file is never deleted, since
    other processes may use it.

    Args:
        folder: folder of the file; created if missing.
        version: version of the tokenizer; results of other versions are never returned.
        limit_mb: size limit of the file in MiB, without the WAL of an open file. Before a batch of
            lines would exceed it, all lines are deleted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, LineCache(Path(folder), "1", 10) as cache:
    ...     cache.put({"간다": Analysis(["가", "ㄴ다"], ["VV", "EFN"], [0, 0])})
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
        with self._errors_disable():
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(self._path)

    def __enter__(self) -> LineCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def get(self, texts: Sequence[str]) -> list[Analysis | None]:
        """Return the analysis of each line, or None if the cache does not have it."""
        keys = [self._key(text) for text in texts]
        values: dict[bytes, Any] = {}
        with self._errors_disable():
            if self._connection is not None:
                for begin in range(0, len(keys), KEYS):
                    some = keys[begin : begin + KEYS]
                    marks = ",".join("?" * len(some))
                    query = f"SELECT key, value FROM lines WHERE key IN ({marks})"
                    values.update(self._connection.execute(query, some))
        results = [_decode(key, values.get(key)) for key in keys]
        misses = results.count(None)
        self.hits += len(texts) - misses
        self.misses += misses
        return results

    def put(self, analyses: dict[str, Analysis]) -> None:
        """Store the analyses of lines, without ``seconds`` and ``spans``, in one transaction."""
        if self._connection is None:
            return
        keys = map(self._key, analyses)
        rows = [(key, _encode(key, row)) for key, row in zip(keys, analyses.values(), strict=True)]
        # At most half of a page is left empty, where a value does not fit in any more.
        num_bytes = sum(200 + 2 * len(value) for _, value in rows)
        with self._errors_disable(), self._connection as connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            if pages * PAGE + num_bytes > self._limit:
                connection.execute("DELETE FROM lines")
            if num_bytes < self._limit:
                connection.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _key(self, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16, key=self._version).digest()

    @contextlib.contextmanager
    def _errors_disable(self) -> Iterator[None]:
        """Continue without the cache after an error of the file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self.close()
            advice = "if it is damaged, delete it while no other command is running"
            logger.warning("line cache %s disabled: %s; %s", self._path, error, advice)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size={PAGE}")
        connection.execute("PRAGMA auto_vacuum=FULL")  # the file shrinks when lines are deleted
        connection.execute("PRAGMA journal_mode=WAL")  # a killed process leaves a consistent file
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA journal_size_limit=4194304")
        connection.execute("CREATE TABLE IF NOT EXISTS lines (key BLOB PRIMARY KEY, value BLOB)")
    except BaseException:
        connection.close()
        raise
    return connection


def _encode(key: bytes, analysis: Analysis) -> bytes:
    data = json.dumps(analysis[:5], ensure_ascii=False, separators=(",", ":"))
    return key + zlib.compress(data.encode(), 1)


def _decode(key: bytes, value: Any) -> Analysis | None:
    """Return the analysis of a value; None if it is missing, damaged or that of another key."""
    try:
        if value[: len(key)] != key:
            return None
        return Analysis(*json.loads(zlib.decompress(value[len(key) :])))
    except (zlib.error, ValueError, TypeError):
        return None


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
            known = {text: EMPTY for text in unique if is_blank(text)}
            non_blank = [text for text in unique if text not in known]
            results = zip(non_blank, cache.get(non_blank), strict=True)
            known.update((text, analysis) for text, analysis in results if analysis is not None)
            missing = [text for text in non_blank if text not in known]
            waiting.append((texts, known, missing))
            yield missing or _columns(texts, known)

    for columns in pool.map(misses()):
        texts, known, missing = waiting.popleft()
        if missing:
            new = dict(zip(missing, analyses_of(columns), strict=True))
            cache.put({text: row for text, row in new.items() if _is_final(row.status)})
            if len(missing) < len(texts):
                columns = _columns(texts, {**known, **new})
        yield columns


def _is_final(status: str) -> bool:
    return status in _REPRODUCIBLE or status.startswith("lost")


def _columns(texts: Iterable[str], analyses: dict[str, Analysis]) -> pa.RecordBatch:
    """Return one row per line; only the first occurrence of a line has its time."""
    rows, analyses = [], dict(analyses)
    for text in texts:
        rows.append(analyses[text])
        analyses[text] = analyses[text]._replace(seconds=0.0)
    return to_record_batch(rows)
