"""A corpus tokenized by the workers of a cluster: shards out, one by one, and their files back.

The text is read here alone, in the same batches and shards as without a cluster, and only a few
shards a worker are on their way, so that memory does not grow with the corpus. A shard is a Parquet
file of the very same bytes, whoever made it and however often. Dask gives what a dead worker had to
another one. A shard that was there whenever workers died is tried once more alone; if that fails
too, it is set aside and named, and all others are made.
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

from korlm.dataset.cluster.client import ClusterClient, lost
from korlm.dataset.cluster.task import ShardResult, ShardText, TokenizerSpec, make_shard, versions
from korlm.dataset.shards import shard_path
from korlm.dataset.statistics.tokenization_report import shard_report_path
from korlm.dataset.text_batches import Batch
from korlm.utils.errors import ClusterError, TokenizerError
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


WAIT_SECONDS = 0.01  # between two looks whether a shard is made


LOOK_SECONDS = 1.0  # between two looks at who is there


IDLE_SECONDS = 15.0  # without any worker, after which that is told


MAX_INITIAL_FAILURES = 4  # shards that fail before any is made


def tokenize_on(
    crew: ClusterClient,
    learned: bytes | None,
    batches: Callable[[], Iterator[Batch]],
    folder: Path,
    bar: ProgressBar,
) -> None:
    """Writes the shards that are not there yet, made by the workers of a cluster.

    Args:
        crew: the workers.
        learned: what the tokenizer learned from train.
        batches: reads the corpus from its beginning.
        folder: of the shards.
        bar: over characters.

    Raises:
        ClusterError: some shards could not be made; all others lie in the folder.
    """
    kit = TokenizerSpec(crew.tokenizer, learned, versions(crew.tokenizer))
    done = {path.name for path in folder.glob("*.parquet")}
    work = _Work(crew, kit, folder, bar, "is to be tried once more, alone")
    for shard in _whole(batches()):
        if shard_path(folder, shard[0].split, shard[0].shard).name in done:
            bar.skip(sum(batch.num_chars for batch in shard))
        else:
            work.give(shard)
    work.finish()
    suspects = work.failed
    if suspects:
        work = _Work(crew, kit, folder, bar, "is set aside")
        for shard in _whole(batches()):
            if _name(shard) in suspects:
                work.give(shard)
                work.finish()
    if work.failed:
        named = "; ".join(f"{name} ({place}): {why}" for name, (place, why) in work.failed.items())
        raise ClusterError(
            f"{len(work.failed)} of the shards could not be made by the cluster: {named}; all "
            "others are kept: the same command without prepare.cluster goes on with these alone"
        )


def _whole(batches: Iterator[Batch]) -> Iterator[list[Batch]]:
    """The batches of one shard together, as soon as the last one of them is there."""
    held: dict[str, list[Batch]] = {}
    for batch in batches:
        held.setdefault(batch.split, []).append(batch)
        if batch.last:
            yield held.pop(batch.split)


def _write(target: Path, made: ShardResult) -> None:
    """The rows of the report first: a shard that is there is whole with all that belongs to it."""
    if made.report is None:
        shard_report_path(target).unlink(missing_ok=True)
    else:
        shard_report_path(target).write_bytes(made.report)
    with atomic_write(target) as path:
        path.write_bytes(made.parquet)


def _name(shard: list[Batch]) -> str:
    return f"{shard[0].split}-{shard[0].shard:05d}"


def _place(shard: list[Batch]) -> str:
    """Which text a shard holds, for those who look for what is wrong with it."""
    parts = [part for batch in shard for part in batch.lines]
    first, last = parts[0], parts[-1]
    end = last.first + len(last.texts) - 1
    if first.doc_id == last.doc_id:
        return f"{first.doc_id}, lines {first.first} to {end}"
    return f"{first.doc_id}, line {first.first}, to {last.doc_id}, line {end}"


@dataclass(frozen=True)
class _PendingShard:
    """A shard on its way, without its text."""

    name: str
    place: str
    chars: int
    target: Path


class _Work:
    """Shards on their way through a cluster; what did not come back is in ``failed``.

    Args:
        crew: the workers.
        kit: what they need.
        folder: of the shards.
        bar: over characters.
        verdict: what becomes of a shard that did not come back.
    """

    def __init__(
        self, crew: ClusterClient, kit: TokenizerSpec, folder: Path, bar: ProgressBar, verdict: str
    ) -> None:
        self.failed: dict[str, tuple[str, str]] = {}  # name: which text, and why
        self._crew = crew
        self._kit = kit
        self._folder = folder
        self._bar = bar
        self._verdict = verdict
        self._given: dict[Future, _PendingShard] = {}
        # Dask fetches what is made while this thread reads on.
        self._ended = as_completed(with_results=True, raise_errors=False, loop=crew.client.loop)
        self._num_workers = 0
        self._num_made = 0
        self._looked = -LOOK_SECONDS
        self._idle_since: float | None = None  # no worker is there; inf: that was told
        self._look()

    def give(self, shard: list[Batch]) -> None:
        """Sends a shard to the workers, as soon as they have little to do."""
        while len(self._given) >= 2 * self._num_workers + 2:
            self._take()
        target = shard_path(self._folder, shard[0].split, shard[0].shard)
        chars = sum(batch.num_chars for batch in shard)
        given = _PendingShard(_name(shard), _place(shard), chars, target)
        future = self._crew.client.submit(
            make_shard, self._kit, ShardText.of(shard), key=f"{given.name}-{uuid.uuid4().hex}"
        )
        self._given[future] = given
        self._ended.add(future)

    def finish(self) -> None:
        """Until all have ended that were given."""
        while self._given:
            self._take()

    def _take(self) -> None:
        """Waits for a shard to end and writes it; looks now and then who is there."""
        self._look()
        if not self._ended.has_ready():
            time.sleep(WAIT_SECONDS)
            return
        future, made = next(self._ended)
        given = self._given.pop(future)  # and Dask forgets it
        if isinstance(made, ShardResult):
            _write(given.target, made)
            self._num_made += 1
            self._bar.update(given.chars)
        else:
            self._handle_failure(given, made[1] if isinstance(made, tuple) else made)

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._crew.ask()
        before, self._num_workers = self._num_workers, self._crew.count()
        if self._num_workers > before:
            self._crew.check()
        elif self._num_workers < before:
            gone = before - self._num_workers
            logger.warning("%d of %d workers ended; others do their shards again", gone, before)
        if self._num_workers:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._looked
        elif self._looked - self._idle_since > IDLE_SECONDS:
            self._idle_since = math.inf
            logger.warning("%s", self._crew.missing())
        self._bar.set_postfix(workers=self._num_workers, refresh=self._num_workers != before)

    def _handle_failure(self, given: _PendingShard, error: BaseException) -> None:
        """Sets a shard aside, or gives up where that would help nobody."""
        if isinstance(error, ClusterError):
            raise error
        if isinstance(error, CancelledError):
            raise lost(self._crew.place) from error
        if isinstance(error, KilledWorker):
            why = "each worker that had it died"
        elif isinstance(error, (TokenizerError, OSError, MemoryError)):
            why = str(error) or type(error).__name__
        else:  # such as a worker without korlm
            told = " ".join(f"{type(error).__name__}: {error}".split())
            raise ClusterError(f"prepare.cluster={self._crew.place}: {told}") from error
        self.failed[given.name] = given.place, why
        if self._num_made == 0 and len(self.failed) >= MAX_INITIAL_FAILURES:
            raise ClusterError(
                f"the first {MAX_INITIAL_FAILURES} shards failed all: {given.name}: {why}"
            ) from error
        logger.warning("%s (%s) %s: %s", given.name, given.place, self._verdict, why)
