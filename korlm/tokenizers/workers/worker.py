"""The child process of a slow tokenizer: lines in through stdin, analyses out through stdout.

A frame is the lengths of its two parts, a JSON message and bytes. From the parent:

    id, texts   a batch of lines
    known       [line, begin, end, why] for parts that are not to be tried (again)
    careful     whether to say what comes next: a worker has died with this batch

To the parent: ``ready`` or ``failed``; ``id`` with the columns of a batch as bytes; ``id`` and
``stuck`` [line, begin, end] when these characters run over their time; ``id`` and ``next`` [line,
begin, end] in a careful batch; ``alive`` each second. The parent ends a stuck worker; nothing else
could end a running call of Java or C++. When stdin closes, because the parent is done or dead, the
process ends at once.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import IO, Any

from korlm.config import WorkerConfig
from korlm.text.unicode import is_blank, replace_lone_surrogates
from korlm.tokenizers.analysis import EMPTY, Analysis, Span, pack, to_record_batch
from korlm.tokenizers.registry import build_external
from korlm.tokenizers.workers.external import TIMEOUT, ExternalTokenizer
from korlm.tokenizers.workers.protocol import (
    ALIVE_SECONDS,
    Message,
    config_from_json,
    receive,
    send,
)
from korlm.utils.errors import TokenizerError


class _Thread:
    """One analyzer in a thread of its own, and what the watch wants to know of it."""

    def __init__(self, worker: _Worker, tokenizer: ExternalTokenizer) -> None:
        self._worker = worker
        self._tokenizer = tokenizer
        self._job: Message = {}
        self._spans: list[tuple[int, int, int]] = []  # of the lines that the analyzer has

    def current_line(self) -> tuple[int, tuple[int, int, int], float] | None:
        """Job, line and characters at work, and the seconds so far."""
        job, spans = self._job, self._spans
        number, seconds = self._tokenizer.analyzer.current_line()
        if not 0 <= number < len(spans) or spans is not self._spans or job is not self._job:
            return None
        return job["id"], spans[number], seconds

    def run(self) -> None:
        """Does jobs until the process ends."""
        try:
            while True:
                job = self._worker.jobs.get()
                self._job = {
                    **job,
                    "texts": [replace_lone_surrogates(text) for text in job["texts"]],
                }
                columns = to_record_batch(self._analyses())
                self._worker.say({"id": job["id"]}, pack(columns))
        except BaseException:
            # A thread that ended alone would leave its job without an answer for ever.
            traceback.print_exc()
            os._exit(1)

    def _analyses(self) -> list[Analysis]:
        texts: list[str] = self._job["texts"]
        analyses = [EMPTY] * len(texts)
        known: dict[int, dict[Span, str]] = {}
        for line, begin, end, why in self._job["known"]:
            known.setdefault(line, {})[Span(begin, end)] = why
        plain = [n for n, text in enumerate(texts) if not is_blank(text) and n not in known]
        for line, found in zip(plain, self._read(plain), strict=True):
            if found == "OutOfMemoryError":  # the other threads' lines may have filled the heap
                with self._worker.alone:
                    (found,) = self._read([line])
            if isinstance(found, str):
                known[line] = {Span(0, len(texts[line])): found}
            else:
                analyses[line] = found
        for line, parts in known.items():
            analyses[line] = self._in_parts(line, parts)
        return analyses

    def _read(self, lines: Sequence[int]) -> list[Analysis | str]:
        texts: list[str] = self._job["texts"]
        step = 1 if self._job["careful"] else max(1, len(lines))
        found: list[Analysis | str] = []
        for at in range(0, len(lines), step):
            spans = [(line, 0, len(texts[line])) for line in lines[at : at + step]]
            found += self._attempt(spans)
        return found

    def _attempt(self, spans: list[tuple[int, int, int]]) -> list[Analysis | str]:
        if self._job["careful"]:
            self._worker.say({"id": self._job["id"], "next": spans[0]})
        texts = self._job["texts"]
        self._spans = spans
        return self._tokenizer.analyzer.analyze([texts[n][begin:end] for n, begin, end in spans])

    def _in_parts(self, line: int, known: dict[Span, str]) -> Analysis:
        text: str = self._job["texts"][line]
        # The longest part is the one that was found out first.
        whole = max(known, key=lambda span: span.end - span.begin)

        def attempt(span: Span) -> Analysis | str:
            if span in known:
                return known[span]
            return self._attempt([(line, *span)])[0]

        analysis = self._tokenizer.analyze_with_fallback(text, known[whole], attempt)
        late = sum(why == TIMEOUT for why in known.values()) * self._worker.seconds
        return analysis._replace(seconds=analysis.seconds + late)


class _Worker:
    """Threads with an analyzer each, and a watch over how long each of them is at one line."""

    def __init__(
        self, output: IO[bytes], config: WorkerConfig, jobs: queue.SimpleQueue[Any]
    ) -> None:
        self.output = output
        self.jobs = jobs
        self.seconds = config.line_timeout_s
        self.alone = threading.Lock()  # held by the one line that is tried again for its memory
        self._lock = threading.Lock()
        self.threads = [_Thread(self, build_external(config)) for _ in range(config.threads or 1)]

    def start(self) -> None:
        """Begins to work."""
        self.say({"ready": True})
        # Kkma recurses: runs of ㅋ overflow the usual stack of a thread.
        threading.stack_size(64 << 20)
        for work in (*(thread.run for thread in self.threads), self._watch):
            threading.Thread(target=work, daemon=True).start()

    def say(self, message: Message, data: bytes = b"") -> None:
        with self._lock:
            send(self.output, message, data)

    def _watch(self) -> None:
        told: set[tuple[int, tuple[int, int, int]]] = set()
        said = 0.0
        while True:
            time.sleep(min(self.seconds / 4, 0.5))
            for thread in self.threads:
                if (work := thread.current_line()) is None:
                    continue
                job, span, seconds = work
                if seconds > self.seconds and (job, span) not in told:
                    told.add((job, span))
                    self.say({"id": job, "stuck": span})
            if time.monotonic() - said > ALIVE_SECONDS:
                self.say({"alive": True})
                said = time.monotonic()


def _read_jobs(jobs: queue.SimpleQueue[Any]) -> None:
    while (frame := receive(sys.stdin.buffer)) is not None:
        jobs.put(frame[0])
    os._exit(0)  # threads may be deep in Java or C++


def main() -> None:
    """Runs until stdin ends: ``python -m korlm.tokenizers.workers.worker SETTINGS``."""
    # Java and libraries may print; the frames must stay clean.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config = config_from_json(sys.argv[1])
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    # While the analyzers start, too: a parent that is gone or impatient is noticed at once.
    reader = threading.Thread(target=_read_jobs, args=(jobs,), daemon=True)
    reader.start()
    try:
        worker = _Worker(output, config, jobs)
    except TokenizerError as error:
        send(output, {"failed": str(error)})
        output.flush()
        os._exit(1)
    worker.start()
    reader.join()


if __name__ == "__main__":
    main()
