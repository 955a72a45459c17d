"""Tokenizes a corpus on a Dask cluster: sends the text of shards, writes the files that come back.

The client reads the text, in the same batches and shards as without a cluster, and submits a few
shards per worker, so that memory does not grow with the corpus. The bytes of a shard do not depend
on who makes it. Dask reassigns the shards of a dead worker. A shard whose workers die is retried
once alone; if that fails too, all others are made and the failure is reported.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distributed import CancelledError, Future, KilledWorker, as_completed

from korlm.dataset.cluster.client import ClusterClient, connection_lost
from korlm.dataset.cluster.task import ShardResult, ShardText, TokenizerSpec, make_shard, versions
from korlm.dataset.statistics.tokenization_report import shard_report_path
from korlm.dataset.storage.shards import shard_path
from korlm.dataset.text_batches import TextBatch
from korlm.utils.errors import ClusterError, TokenizerError
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.01  # between two checks for finished shards
WORKER_CHECK_SECONDS = 1.0  # between two checks of the workers
IDLE_SECONDS = 15.0  # without any worker, before a warning
MAX_INITIAL_FAILURES = 4  # failed shards before the first success


def tokenize_on(
    client: ClusterClient,
    tokenizer_model: bytes | None,
    batches: Callable[[], Iterator[TextBatch]],
    folder: Path,
    bar: ProgressBar,
) -> None:
    """Write the shards that do not exist yet, made by the workers of a cluster.

    Args:
        client: connection to the workers.
        tokenizer_model: the model of a trained tokenizer, else None.
        batches: reads the corpus from its beginning.
        folder: of the shards.
        bar: progress in characters.

    Raises:
        ClusterError: some shards could not be made; the others are in the folder.
    """
    own = versions(client.tokenizer, tokenizer_model)
    spec = TokenizerSpec(client.tokenizer, tokenizer_model, own)
    finished = {path.name for path in folder.glob("*.parquet")}
    scheduler = ShardScheduler(client, spec, folder, bar, "will be retried alone")
    for shard in _group_by_shard(batches()):
        if shard_path(folder, shard[0].split, shard[0].shard).name in finished:
            bar.skip(sum(batch.num_chars for batch in shard))
        else:
            scheduler.submit(shard)
    scheduler.finish()
    retry = scheduler.failed
    if retry:
        scheduler = ShardScheduler(client, spec, folder, bar, "failed again")
        for shard in _group_by_shard(batches()):
            if _name(shard) in retry:
                scheduler.submit(shard)
                scheduler.finish()
    if scheduler.failed:
        details = "; ".join(
            f"{name} ({text}): {reason}" for name, (text, reason) in scheduler.failed.items()
        )
        raise ClusterError(
            f"the cluster could not make {len(scheduler.failed)} of the shards: {details}; all "
            "others are kept: the same command without prepare.cluster makes only these"
        )


def _group_by_shard(batches: Iterator[TextBatch]) -> Iterator[list[TextBatch]]:
    """Yield the batches of each shard together."""
    pending: dict[str, list[TextBatch]] = {}
    for batch in batches:
        pending.setdefault(batch.split, []).append(batch)
        if batch.is_last:
            yield pending.pop(batch.split)


def _write(target: Path, result: ShardResult) -> None:
    """Write a shard, its report first: a shard that exists is complete."""
    if result.report is None:
        shard_report_path(target).unlink(missing_ok=True)
    else:
        shard_report_path(target).write_bytes(result.report)
    with atomic_write(target) as path:
        path.write_bytes(result.parquet)


def _name(shard: list[TextBatch]) -> str:
    return f"{shard[0].split}-{shard[0].shard:05d}"


def _describe_text(shard: list[TextBatch]) -> str:
    """Return the documents and lines of a shard, for messages."""
    blocks = [block for batch in shard for block in batch.blocks]
    first, last = blocks[0], blocks[-1]
    end = last.first + len(last.texts) - 1
    if first.doc_id == last.doc_id:
        return f"{first.doc_id}, lines {first.first} to {end}"
    return f"{first.doc_id}, line {first.first}, to {last.doc_id}, line {end}"


@dataclass(frozen=True)
class _PendingShard:
    """A submitted shard, without its text."""

    name: str
    text: str  # documents and lines
    num_chars: int
    target: Path


class ShardScheduler:
    """Submits shards to the workers and writes the results.

    Args:
        client: connection to the workers.
        spec: the tokenizer.
        folder: of the shards.
        bar: progress in characters.
        on_failure: what happens to a failed shard, for messages.

    Attributes:
        failed: name of each failed shard -> its text and the reason.
    """

    def __init__(
        self,
        client: ClusterClient,
        spec: TokenizerSpec,
        folder: Path,
        bar: ProgressBar,
        on_failure: str,
    ) -> None:
        self.failed: dict[str, tuple[str, str]] = {}
        self._client = client
        self._spec = spec
        self._folder = folder
        self._bar = bar
        self._on_failure = on_failure
        self._pending: dict[Future, _PendingShard] = {}
        # Dask fetches results while this thread reads the text.
        self._completed = as_completed(
            with_results=True, raise_errors=False, loop=client.client.loop
        )
        self._num_workers = 0
        self._num_written = 0
        self._checked = -WORKER_CHECK_SECONDS  # time of the last check of the workers
        self._idle_since: float | None = None  # time without workers; inf after the warning
        self._check_workers()

    def submit(self, shard: list[TextBatch]) -> None:
        """Submit a shard; block while enough shards are pending."""
        while len(self._pending) >= 2 * self._num_workers + 2:
            self._write_completed()
        target = shard_path(self._folder, shard[0].split, shard[0].shard)
        num_chars = sum(batch.num_chars for batch in shard)
        pending = _PendingShard(_name(shard), _describe_text(shard), num_chars, target)
        future = self._client.client.submit(
            make_shard, self._spec, ShardText.pack(shard), key=f"{pending.name}-{uuid.uuid4().hex}"
        )
        self._pending[future] = pending
        self._completed.add(future)

    def finish(self) -> None:
        """Wait for all submitted shards."""
        while self._pending:
            self._write_completed()

    def _write_completed(self) -> None:
        """Write a completed shard, if there is one; else sleep."""
        self._check_workers()
        if not self._completed.has_ready():
            time.sleep(WAIT_SECONDS)
            return
        future, result = next(self._completed)
        shard = self._pending.pop(future)  # Dask releases the result with the future
        if isinstance(result, ShardResult):
            _write(shard.target, result)
            self._num_written += 1
            self._bar.update(shard.num_chars)
        else:
            self._handle_failure(shard, result[1] if isinstance(result, tuple) else result)

    def _check_workers(self) -> None:
        if time.monotonic() - self._checked < WORKER_CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        self._client.request_workers()
        before, self._num_workers = self._num_workers, self._client.count()
        if self._num_workers > before:
            self._client.check()
        elif self._num_workers < before:
            lost = before - self._num_workers
            logger.warning("lost %d of %d workers; rescheduling their shards", lost, before)
        if self._num_workers:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._checked
        elif self._checked - self._idle_since > IDLE_SECONDS:
            self._idle_since = math.inf
            logger.warning("%s", self._client.no_workers_message())
        self._bar.set_postfix(workers=self._num_workers, refresh=self._num_workers != before)

    def _handle_failure(self, shard: _PendingShard, error: BaseException) -> None:
        """Record a failed shard; raise ClusterError for errors that all shards would have."""
        if isinstance(error, ClusterError):
            raise error
        if isinstance(error, CancelledError):
            raise connection_lost(self._client.address) from error
        if isinstance(error, KilledWorker):
            reason = "its workers died"
        elif isinstance(error, (TokenizerError, OSError, MemoryError)):
            reason = str(error) or type(error).__name__
        else:  # for example, korlm is not installed there
            message = " ".join(f"{type(error).__name__}: {error}".split())
            raise ClusterError(f"prepare.cluster={self._client.address}: {message}") from error
        self.failed[shard.name] = shard.text, reason
        if self._num_written == 0 and len(self.failed) >= MAX_INITIAL_FAILURES:
            raise ClusterError(
                f"the first {MAX_INITIAL_FAILURES} shards failed: {shard.name}: {reason}"
            ) from error
        logger.warning("shard %s (%s) %s: %s", shard.name, shard.text, self._on_failure, reason)
