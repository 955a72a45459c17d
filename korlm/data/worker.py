"""The child process that owns a JVM: lines in through stdin, analyses out through stdout.

Every message is a frame: four bytes of length, then JSON. From the parent: ``{"id", "texts",
"skip"}``, where ``skip`` numbers the lines not to be tried again. To the parent: ``{"ready"}``,
``{"id", "results"}``, ``{"id", "stuck"}`` for a line that runs over its time, ``{"alive"}`` between
the lines of a batch that takes long, ``{"failed"}``. The parent ends a stuck worker; nothing else
could end a running Java call. When stdin closes, because the parent is done or dead, the process
ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import struct
import sys
import threading
import time
from typing import IO, Any

from korlm.data.columns import Analysis
from korlm.data.kkma import KkmaTokenizer, unread
from korlm.errors import TokenizerError

Message = dict[str, Any]
ALIVE_SECONDS = 1.0  # between lines, at least, after which a worker says that it goes on


def send(stream: IO[bytes], message: Message) -> None:
    """Writes one frame."""
    body = json.dumps(message).encode("ascii")
    stream.write(struct.pack("<I", len(body)) + body)
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """Reads one frame; None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack("<I", head)
    body = stream.read(size)
    if len(body) < size:
        return None
    message: Message = json.loads(body)
    return message


class _Worker:
    """Threads with an analyzer each, and a watch over how long each of them is at one line."""

    def __init__(self, output: IO[bytes], threads: int, heap_mb: int, seconds: float) -> None:
        self.output = output
        self.lock = threading.Lock()
        self.said = 0.0  # when the last message went
        self.jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.seconds = seconds
        self.at_work: dict[int, tuple[int, int, float]] = {}  # thread -> chunk, line, since when
        # Kkma recurses: runs of ㅋ overflow the usual stack of a thread.
        threading.stack_size(64 << 20)
        for number in range(threads):
            analyzer = KkmaTokenizer(heap_mb)
            threading.Thread(target=self._analyze, args=(number, analyzer), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def say(self, message: Message) -> None:
        with self.lock:
            send(self.output, message)
            self.said = time.monotonic()

    def _analyze(self, number: int, analyzer: KkmaTokenizer) -> None:
        while True:
            job = self.jobs.get()
            skip = set(job["skip"])
            results: list[Analysis] = []
            for index, text in enumerate(job["texts"]):
                if index in skip:
                    results.append(unread(text, "too slow"))
                    continue
                self.at_work[number] = (job["id"], index, time.monotonic())
                try:
                    results.append(analyzer.analyze(text))
                except RecursionError:
                    results.append(unread(text, "RecursionError"))
                if time.monotonic() - self.said > ALIVE_SECONDS:
                    self.say({"alive": True})
            self.at_work.pop(number, None)
            self.say({"id": job["id"], "results": results})

    def _watch(self) -> None:
        told: set[tuple[int, int]] = set()
        while True:
            time.sleep(min(self.seconds / 4, 0.5))
            for chunk, index, since in list(self.at_work.values()):
                late = time.monotonic() - since > self.seconds
                if late and (chunk, index) not in told:
                    told.add((chunk, index))
                    self.say({"id": chunk, "stuck": index})


def main() -> None:
    """Runs until stdin ends: ``python -m korlm.data.worker THREADS HEAP_MB SECONDS_PER_LINE``."""
    # Java and libraries may print; the frames must stay clean.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threads, heap_mb, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    try:
        worker = _Worker(output, threads, heap_mb, seconds)
    except TokenizerError as error:
        send(output, {"failed": str(error)})
        output.flush()
        os._exit(1)
    worker.say({"ready": True})
    while (job := receive(sys.stdin.buffer)) is not None:
        worker.jobs.put(job)
    os._exit(0)  # threads may be deep in Java


if __name__ == "__main__":
    main()
