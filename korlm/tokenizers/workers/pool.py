"""Run a tokenizer over batches of lines; yield record batches in the same order.

Fast tokenizers run in this process, slow ones in child processes (``workers/worker.py``). The pool
starts these, gives each a few batches at a time, and replaces those that die. Every line gets a
row:

- A batch whose worker dies is halved, and the halves are queued at the front. Each runs alone in a
  worker, so that no other batch is affected again.
- A single line that fails, whose workers died twice, or that exceeds ``line_timeout_s``, is split
  into parts (``workers/fallback.py``). Each part runs alone in a worker, under the same rules.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from korlm.config import JavaConfig, KkmaConfig, KkmaEngine, TokenizerConfig, WorkerConfig
from korlm.text.unicode import replace_lone_surrogates
from korlm.tokenizers.analysis import Analysis, Span
from korlm.tokenizers.kkma.process import SPANS, KkmaProcess
from korlm.tokenizers.registry import build_inprocess, tokenizer_version, train_tokenizer
from korlm.tokenizers.workers.external import TIMEOUT, may_cut, with_defaults
from korlm.tokenizers.workers.fallback import analyze_with_fallback
from korlm.tokenizers.workers.process import Batch, Job, Results, WorkerProcess
from korlm.tokenizers.workers.protocol import ALIVE_SECONDS, Message
from korlm.utils.errors import TokenizerError

if TYPE_CHECKING:  # functions import it: that takes 0.3 s, and korlm.Kkma does not need it
    import pyarrow as pa

logger = logging.getLogger(__name__)

# Limit for the start of a worker. Kkma takes 1 s, KoNLPy's engine 4 to 15, or 60 beside ten others.
START_SECONDS = 300.0

# Limit of consecutive deaths that no line can have caused: of starting and of silent workers.
MAX_DEATHS = 5

# Deaths of workers with the same single line, after which the line is split. The first death may
# have had another cause.
MAX_LINE_DEATHS = 2

Lines: TypeAlias = "Sequence[str] | pa.RecordBatch"  # lines to analyze, or lines already analyzed


class TokenizerPool:
    """Runs a tokenizer over batches of lines; a context manager, which ends the processes.

    Args:
        config: settings of the tokenizer, with the numbers of processes and threads.
        tokenizer_model: result of ``train_tokenizer``.

    Raises:
        TokenizerError: a package is not installed, or the tokenizer model is damaged.
    """

    def __init__(self, config: TokenizerConfig, tokenizer_model: bytes | None = None) -> None:
        self._tokenizer_model = tokenizer_model
        self._in_process = build_inprocess(config, tokenizer_model)
        self._title = config.name.capitalize()
        self._inbox: queue.SimpleQueue[
            tuple[WorkerProcess | None, tuple[Message, Results | None] | None]
        ] = queue.SimpleQueue()
        self._children: list[WorkerProcess] = []
        self._waiting: collections.deque[Job] = collections.deque()
        # Single lines that failed, to be split, with the reasons.
        self._failed: collections.deque[tuple[Job, str]] = collections.deque()
        self._job_numbers = itertools.count()
        self._lock = threading.Lock()  # for a tokenizer that runs in this process
        # One thread at a time, the pump thread, exchanges messages with the workers for all maps.
        # The lock guards the next two attributes; waiters are notified when one becomes False.
        self._pump_lock = threading.Condition()
        self._has_pump_thread = False
        self._is_closing = False  # whether a thread is in __exit__
        self._num_resets, self._why_reset = 0, ""
        self._was_ready = False  # whether any worker has started
        self._deaths = 0  # see MAX_DEATHS
        if isinstance(config, WorkerConfig):
            if not is_fast_kkma(config):
                tokenizer_version(config, tokenizer_model)  # raises if a package is missing
            if tokenizer_model is None:
                self._tokenizer_model = train_tokenizer(config, [])
            self._config = with_defaults(config)

    def __enter__(self) -> TokenizerPool:
        return self

    def __exit__(self, *error: object) -> None:
        with self._pump_lock:
            self._is_closing = True
            self._wake()
            while self._has_pump_thread:
                self._pump_lock.wait()
            self._reset("was closed")
            self._is_closing = False
            self._pump_lock.notify_all()

    def _reset(self, why: str) -> None:
        """End the workers. Maps that have not ended raise an error; a later map starts new ones."""
        for child in self._children:
            child.close()
        self._children = []
        self._waiting.clear()
        self._failed.clear()
        self._num_resets, self._why_reset = self._num_resets + 1, why

    def _wake(self) -> None:
        """Let the thread that waits for messages look for new jobs."""
        self._inbox.put((None, None))

    def map(self, batches: Iterable[Lines]) -> Iterator[pa.RecordBatch]:
        """Yield one record batch for each batch of lines, which are normalized, in order.

        At most ``workers * (threads + 2)`` batches are being analyzed at a time. Several threads
        may share a pool, and a thread may begin a map before another map has ended.

        Args:
            batches: batches of lines. A record batch, of lines already analyzed, is passed through;
                no process is started for it.

        Raises:
            TokenizerError: a worker does not start, workers die again and again, or the pool is
                closed before the map ends.
        """
        if self._in_process is None:
            yield from self._map_in_children(batches, None)
            return
        import pyarrow as pa

        for batch in batches:
            if isinstance(batch, pa.RecordBatch):
                yield batch
                continue
            with self._lock:
                analyzed = self._in_process.analyze_batch(batch)
            yield analyzed

    def map_lists(self, batches: Iterable[Sequence[str]], output: str) -> Iterator[list[Analysis]]:
        """Yield one list of analyses for each batch of lines, as ``map`` does, without Arrow.

        Only for Kkma's fast engine.

        Args:
            batches: batches of lines.
            output: what the analyses have (``kkma/process.py``).
        """
        yield from cast("Iterator[list[Analysis]]", self._map_in_children(batches, output))

    def _map_in_children(self, batches: Iterable[Lines], output: str | None) -> Iterator[Results]:
        remaining = iter(batches)
        in_flight: collections.deque[Batch] = collections.deque()
        limit = self._config.workers * ((self._config.threads or 1) + 2)
        num_resets = self._num_resets
        try:
            while True:
                for lines in itertools.islice(remaining, limit - len(in_flight)):
                    in_flight.append(self._enqueue(lines, output))
                if not in_flight:
                    return
                self._wait(in_flight[0], num_resets)
                yield in_flight.popleft().results()
        finally:  # if the map did not end, workers need not begin its other batches
            for batch in in_flight:
                batch.is_abandoned = True

    def _wait(self, batch: Batch, num_resets: int) -> None:
        """Exchange messages, or let another thread do so, until a batch is done."""
        has_woken = False  # whether the other thread has been notified of this thread's jobs
        while not batch.is_done:
            with self._pump_lock:
                if self._num_resets != num_resets:
                    raise TokenizerError(f"{self._title}: its pool {self._why_reset}")
                if self._has_pump_thread or self._is_closing:
                    if not has_woken:
                        self._wake()
                    has_woken = True
                    self._pump_lock.wait()
                    continue
                self._has_pump_thread = True
            try:
                if self._failed:
                    self._analyze_in_parts(*self._failed.popleft())
                else:
                    self._step()
            except BaseException as error:  # also Ctrl-C, which may lose a message
                self._reset(f"failed: {' '.join(str(error).split()) or type(error).__name__}")
                raise
            finally:
                with self._pump_lock:
                    self._has_pump_thread = False
                    self._pump_lock.notify_all()

    def _enqueue(self, lines: Lines, output: str | None) -> Batch:
        """Queue a job for a batch, unless it is analyzed or empty; return the batch."""
        batch = Batch(len(lines))
        if output is None:
            import pyarrow as pa

            from korlm.tokenizers.columns import to_record_batch

            analyzed = lines if len(lines) else to_record_batch([])
            if isinstance(analyzed, pa.RecordBatch):
                batch.add(0, analyzed)
                return batch
        if len(lines):
            self._waiting.append(Job(list(lines), batch, output=output))
        return batch

    def _analyze_in_parts(self, job: Job, why: str) -> None:
        """Analyze a single line in parts."""
        assert job.batch is not None
        text = replace_lone_surrogates(job.texts[0])
        reasons = [why]

        def attempt(span: Span) -> Analysis | str:
            part = Job([text[span.begin : span.end]], alone=True, output=job.output)
            self._waiting.appendleft(part)
            while part.result is None:
                self._step()
            if isinstance(part.result, str):
                reasons.append(part.result)
            return part.result

        with_spans = job.output == SPANS
        analysis = analyze_with_fallback(text, why, attempt, may_cut(self._config), with_spans)
        lost_seconds = reasons.count(TIMEOUT) * self._config.line_timeout_s
        analysis = analysis._replace(seconds=analysis.seconds + lost_seconds)
        results: Results = [analysis]
        if job.output is None:
            from korlm.tokenizers.columns import to_record_batch

            results = to_record_batch(results)
        job.batch.add(job.first, results)

    def _step(self) -> None:
        """Send jobs to workers, and process one message; wait for it at most ``ALIVE_SECONDS``."""
        if self._is_closing:
            raise TokenizerError(f"{self._title}: its pool was closed")
        if not self._children:
            self._children = [self._start() for _ in range(self._config.workers)]
        self._dispatch()
        patience = START_SECONDS + self._config.line_timeout_s
        for child in self._children:  # they send a message each second
            if child.jobs and child.silent > patience:
                self._on_worker_lost(child, silent=True)
                return
        began, timeout = time.monotonic(), min(ALIVE_SECONDS, patience)
        sender = frame = None
        with contextlib.suppress(queue.Empty):
            sender, frame = self._inbox.get(timeout=timeout)
        # At most the timeout: this process itself may have been stopped (Ctrl-Z) meanwhile.
        waited = min(time.monotonic() - began, timeout)
        for child in self._children:
            child.silent += waited
        if sender is None or sender not in self._children:  # no message, or of a replaced worker
            return
        if frame is None:
            self._on_worker_lost(sender)
        else:
            self._process(sender, *frame)

    def _start(self) -> WorkerProcess:
        kind = KkmaProcess if is_fast_kkma(self._config) else WorkerProcess
        try:
            return kind(self._config, self._inbox, self._tokenizer_model)
        except TokenizerError as error:
            raise TokenizerError(f"{self._title} did not start: {error}") from error

    def _dispatch(self) -> None:
        """Send each job to the worker with the fewest jobs, unless it must wait to run alone."""
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            if job.batch is not None and job.batch.is_abandoned:
                continue
            child = min(self._children, key=lambda child: (child.must_run_alone, len(child.jobs)))
            if child.jobs and (job.alone or child.must_run_alone):
                self._waiting.append(job)  # until a worker is free
            else:
                child.send(next(self._job_numbers), job)

    def _process(
        self,
        child: WorkerProcess,
        message: Message,
        results: Results | None,
    ) -> None:
        """Act on a message of a worker."""
        if "failed" in message:
            raise TokenizerError(f"{self._title} did not start: {message['failed']}")
        if "ready" in message:
            child.ready = self._was_ready = True
            return
        job = child.jobs.pop(message.get("id", -1), None)
        if job is None:  # a line that was done just when it was reported as stuck
            return
        if "stuck" in message:
            other_lines = self._isolate_stuck_line(job, message["stuck"])
            self._replace_worker(child, [*child.jobs.values(), *other_lines])
            return
        self._deaths = 0
        self._finish(job, results, message.get("errors", []))

    def _finish(self, job: Job, results: Results, errors: list[tuple[int, str]]) -> None:
        """Store the results of a job; queue lines with errors to be analyzed in parts.

        An error is the index of a line and the reason why it failed.
        """
        if job.batch is None:
            (job.result,) = [why for _, why in errors] or as_list(results)
            return
        begin = 0
        for line, why in [*errors, (len(job.texts), "")]:
            if begin < line:
                job.batch.add(job.first + begin, results[begin:line])
            if why:
                self._failed.append((job.slice(line, line + 1), why))
            begin = line + 1

    def _isolate_stuck_line(self, job: Job, line: int) -> list[Job]:
        """Queue a line that takes too long for splitting; return jobs for the other lines."""
        logger.warning(
            "%s took more than %g s for %d characters (%.20s...): splitting them; "
            "on a slow machine, raise tokenizer.line_timeout_s",
            *(self._title, self._config.line_timeout_s, len(job.texts[line]), job.texts[line]),
        )
        if job.batch is None:
            job.result = TIMEOUT
            return []
        self._failed.append((job.slice(line, line + 1), TIMEOUT))
        rest = [job.slice(0, line), job.slice(line + 1, len(job.texts))]
        return [part for part in rest if part.texts]

    def _on_worker_lost(self, child: WorkerProcess, silent: bool = False) -> None:
        """Replace a worker that died or is silent for too long, and run its jobs again."""
        child.process.kill()
        child.process.wait()
        reason = child.exit_reason()
        jobs = list(child.jobs.values())
        # Blame the lines, which may then be split, only if the worker really died, or if lines have
        # a time limit: on a busy machine any worker may be silent. Otherwise, retry the jobs
        # unchanged, at most MAX_DEATHS times.
        if child.ready and (has_time_limit(self._config) or not silent):
            why = "Java died" if isinstance(self._config, JavaConfig) else "process died"
            jobs = [retry for job in jobs for retry in self._retry(job, why)]
        else:
            self._deaths += 1
            if not self._was_ready or self._deaths > MAX_DEATHS:
                state = "died again and again" if self._was_ready else "ended before it was ready"
                raise TokenizerError(
                    f"the worker of {self._title} {state} ({reason}); {_memory_hint(self._config)}"
                )
        logger.warning("%s worker died (%s); restarting it", self._title, reason)
        self._replace_worker(child, jobs)

    def _replace_worker(self, child: WorkerProcess, jobs: list[Job]) -> None:
        """Start a new worker in place of another one, and queue jobs at the front."""
        child.close()
        self._children[self._children.index(child)] = self._start()
        self._waiting.extendleft(reversed(jobs))

    def _retry(self, job: Job, why: str) -> list[Job]:
        """Return the jobs that replace one whose worker died: its halves, or its line again."""
        job.alone = True
        job.deaths += 1
        half = len(job.texts) // 2
        if half:
            return [job.slice(0, half), job.slice(half, len(job.texts))]
        if job.deaths < MAX_LINE_DEATHS:
            return [job]
        if job.batch is None:
            job.result = why
        else:
            self._failed.append((job, why))
        return []


def as_list(results: Results) -> list[Analysis]:
    """Return results as a list of analyses."""
    if isinstance(results, list):
        return results
    from korlm.tokenizers.columns import analyses_of

    return analyses_of(results)


def is_fast_kkma(config: WorkerConfig) -> bool:
    """Return True if a tokenizer is Kkma's fast engine, which runs without Python."""
    return isinstance(config, KkmaConfig) and config.engine is KkmaEngine.fast


def has_time_limit(config: WorkerConfig) -> bool:
    """Return True if ``line_timeout_s`` limits a line; Kkma's fast engine counts its steps."""
    return not is_fast_kkma(config)


def _memory_hint(config: WorkerConfig) -> str:
    heap = f" for tokenizer.heap_mb={config.heap_mb}" if isinstance(config, JavaConfig) else ""
    return f"is there enough memory{heap}?"
