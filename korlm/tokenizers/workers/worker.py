"""Run a tokenizer in a child process: lines come through stdin, analyses go to stdout.

Each message from the parent is a batch with the keys ``id`` and ``texts``. With ``part``, it is one
part of a line, for which the worker has no fallback. Messages to the parent have the keys:

    ready or failed   the analyzers have started, or the reason why they have not
    id                a batch is done; a record batch follows as data
    id, errors        a part could not be analyzed: [(0, reason)]
    id, stuck         the index of a line of the batch that exceeds ``line_timeout_s``
    alive             sent each second

The parent kills a stuck worker: a running call of Java or C++ cannot be ended otherwise. If stdin
closes because the parent has ended, the process ends at once.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from typing import IO, Any

from korlm.config import WorkerConfig
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.columns import pack, to_record_batch
from korlm.tokenizers.registry import build_external
from korlm.tokenizers.workers.external import LineAnalyzer
from korlm.tokenizers.workers.protocol import (
    ALIVE_SECONDS,
    Message,
    config_from_json,
    receive,
    send,
)
from korlm.utils.errors import TokenizerError


class _Thread:
    """A thread with an analyzer."""

    def __init__(self, worker: _Worker, analyzer: LineAnalyzer) -> None:
        self._worker = worker
        self._analyzer = analyzer
        self._job_id = -1

    def current_line(self) -> tuple[int, int, float] | None:
        """Return (id of the batch, index of the current line, its seconds so far), if any.

        Another thread calls this. None: the thread is between two calls of the analyzer.
        """
        job_id = self._job_id
        line, seconds = self._analyzer.current_line()
        return (job_id, line, seconds) if line >= 0 and job_id == self._job_id else None

    def run(self) -> None:
        """Analyze batches until the process ends."""
        try:
            while True:
                job = self._worker.jobs.get()
                self._job_id = job["id"]
                self._answer(job["texts"], bool(job.get("part")))
        except BaseException:
            # If only this thread ended, its batch would never be answered.
            traceback.print_exc()
            os._exit(1)

    def _answer(self, texts: list[str], is_part: bool) -> None:
        """Analyze a batch, and send the results."""
        message: Message = {"id": self._job_id}
        analyses: list[Analysis] = []
        if is_part:
            result = self._analyzer.analyze_part(texts[0])
            if isinstance(result, str):
                message["errors"] = [(0, result)]
            else:
                analyses = [result]
        else:
            analyses = self._analyzer.analyze_lines(texts)
        self._worker.send(message, pack(to_record_batch(analyses)))


class _Worker:
    """Threads with an analyzer each, and one thread that watches how long they take for a line."""

    def __init__(
        self,
        output: IO[bytes],
        config: WorkerConfig,
        jobs: queue.SimpleQueue[Any],
        tokenizer_model: bytes | None,
    ) -> None:
        self.output = output
        self.jobs = jobs
        self.seconds = config.line_timeout_s
        self._lock = threading.Lock()
        self.threads = [
            _Thread(self, build_external(config, tokenizer_model))
            for _ in range(config.threads or 1)
        ]

    def start(self) -> None:
        """Start the threads."""
        self.send({"ready": True})
        # Kkma is recursive: runs of ㅋ overflow the default stack of a thread.
        threading.stack_size(64 << 20)
        for work in (*(thread.run for thread in self.threads), self._watch):
            threading.Thread(target=work, daemon=True).start()

    def send(self, message: Message, data: bytes = b"") -> None:
        """Send a message to the parent."""
        with self._lock:
            send(self.output, message, data)

    def _watch(self) -> None:
        """Report stuck lines, and send ``alive``, until the process ends."""
        reported: set[tuple[int, int]] = set()
        last_alive = 0.0
        while True:
            time.sleep(min(self.seconds / 4, 0.5))
            for thread in self.threads:
                if (current := thread.current_line()) is None:
                    continue
                job_id, line, seconds = current
                if seconds > self.seconds and (job_id, line) not in reported:
                    reported.add((job_id, line))
                    self.send({"id": job_id, "stuck": line})
            if time.monotonic() - last_alive > ALIVE_SECONDS:
                self.send({"alive": True})
                last_alive = time.monotonic()


def _read_jobs(jobs: queue.SimpleQueue[Any]) -> None:
    """Queue the jobs that the parent sends; when stdin closes, end the process."""
    while (frame := receive(sys.stdin.buffer)) is not None:
        jobs.put(frame[0])
    os._exit(0)  # threads may be inside a call of Java or C++


def main() -> None:
    """Run until stdin ends: ``python -m korlm.tokenizers.workers.worker SETTINGS [model]``.

    With ``model``, the first frame is the tokenizer model.
    """
    # Java and libraries may print to stdout, which must carry messages only.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config = config_from_json(sys.argv[1])
    tokenizer_model = None
    if sys.argv[2:]:
        frame = receive(sys.stdin.buffer)
        tokenizer_model = frame[1] if frame is not None else None
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # Started before the analyzers, so that the process ends with its parent even while they start.
    reader = threading.Thread(target=_read_jobs, args=(jobs,), daemon=True)
    reader.start()
    try:
        worker = _Worker(output, config, jobs, tokenizer_model)
    except TokenizerError as error:
        send(output, {"failed": str(error)})
        output.flush()
        os._exit(1)
    worker.start()
    reader.join()


if __name__ == "__main__":
    main()
