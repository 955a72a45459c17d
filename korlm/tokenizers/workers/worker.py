"""A child process with a tokenizer: lines in through stdin, analyses out through stdout.

Messages from the parent are batches: ``id`` and ``texts``; with ``part`` it is one piece of a line,
analyzed as it is or not at all. Messages to the parent:

    ready, failed   the analyzers have started, or the reason why not
    id, errors      a batch is done; the columns follow as bytes, except of a part with an error:
                    number and reason of each line that could not be analyzed
    id, stuck       this line of the batch exceeds ``line_timeout_s``
    alive           each second

The parent kills a stuck worker: a running call of Java or C++ cannot be ended otherwise. When stdin
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
from korlm.tokenizers.workers.external import ExternalTokenizer
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

    def __init__(self, worker: _Worker, tokenizer: ExternalTokenizer) -> None:
        self._worker = worker
        self._tokenizer = tokenizer
        self._job_id = -1

    def current_line(self) -> tuple[int, int, float] | None:
        """Return batch, line and its seconds so far; called by another thread."""
        job, lines = self._job_id, self._tokenizer.lines
        index, seconds = self._tokenizer.analyzer.current_line()
        if not 0 <= index < len(lines) or lines is not self._tokenizer.lines or job != self._job_id:
            return None  # between two calls of the analyzer
        return job, lines[index], seconds

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
        message: Message = {"id": self._job_id}
        analyses: list[Analysis] = []
        if is_part:
            result = self._tokenizer.analyze_part(texts[0])
            if isinstance(result, str):
                message["errors"] = [(0, result)]
            else:
                analyses = [result]
        else:
            analyses = self._tokenizer.analyze_lines(texts)
        self._worker.send(message, pack(to_record_batch(analyses)))


class _Worker:
    """Threads with an analyzer each, and one that watches how long they take for a line."""

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
        with self._lock:
            send(self.output, message, data)

    def _watch(self) -> None:
        reported: set[tuple[int, int]] = set()
        last_alive = 0.0
        while True:
            time.sleep(min(self.seconds / 4, 0.5))
            for thread in self.threads:
                if (current := thread.current_line()) is None:
                    continue
                job, line, seconds = current
                if seconds > self.seconds and (job, line) not in reported:
                    reported.add((job, line))
                    self.send({"id": job, "stuck": line})
            if time.monotonic() - last_alive > ALIVE_SECONDS:
                self.send({"alive": True})
                last_alive = time.monotonic()


def _read_jobs(jobs: queue.SimpleQueue[Any]) -> None:
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
    # Before the analyzers start, so that the end of the parent is noticed meanwhile.
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
