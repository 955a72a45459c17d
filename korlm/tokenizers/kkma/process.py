"""Run Kkma's fast engine, a process in Java without Python (``java/korlm/kkma/Worker.java``).

The fast engine (``java/``, GPL like Kkma) reimplements Kkma's search in Kkma's dictionary, which is
in its jar as flat arrays (``tokenizers/README.md``). It limits the work on each word by a count of
steps, so that the tokens of a line are the same on every machine and under any load.

The result of a job is a record batch of tokens or, if the job has an ``output``, a list of
analyses: ``tokens``; ``spans``: tokens with their spans, and with indices of Kkma's eojeols instead
of those of the line; ``sentences`` or ``nouns`` instead of tokens. Blank lines have no tokens; for
jobs with an output, Kkma decides which lines are blank.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from korlm.config import KkmaConfig, WorkerConfig
from korlm.text.unicode import is_blank
from korlm.tokenizers.analysis import Analysis
from korlm.tokenizers.jvm import crash_log, java_program, jvm_options
from korlm.tokenizers.workers.process import Job, Results, WorkerProcess, crash_reason
from korlm.tokenizers.workers.protocol import Message, send_frame
from korlm.utils.errors import TokenizerError
from korlm.utils.packages import konlpy_folder

if TYPE_CHECKING:
    import pyarrow as pa

JAR = Path(__file__).parents[1] / "java" / "kkma.jar"

SPANS = "spans"  # an output of jobs

# These two show whether the dictionary is complete: KoNLPy's engine ignores errors when it loads.
NUM_ENTRIES = 365_048

SELF_TEST = {
    "아버지가방에들어가신다.": "아버지 가방 에 들어가 시 ㄴ다 .",
    "나는 학교에 갔다.": "나 는 학교 에 가 었 다 .",
    "영화가 정말 재미있었어요!": "영화 가 정말 재미있 었 어요 !",
}

# Steps per word: one for each pair of readings compared, eight for each reading built. Words that
# Kkma itself analyzes within 10 s took up to 2.5 million (2026-11, all kinds of hard words tried).
BUDGET = 8_000_000

# Readings to cache per MB of heap, about 180 bytes each. A larger cache cost more time in garbage
# collection than it saved (nsmc-lm, 2026-11).
READINGS_PER_MB = 300

# Part of the heap for short-lived objects; a larger one would fill the memory without saving time.
YOUNG_MB, YOUNG_MB_PER_THREAD = 128, 32


class KkmaProcess(WorkerProcess):
    """A process of the fast engine.

    Raises:
        TokenizerError: there is no Java, or it is too old.
    """

    def _start(
        self, config: WorkerConfig, tokenizer_model: bytes | None
    ) -> subprocess.Popen[bytes]:
        assert isinstance(config, KkmaConfig)
        self._config = config
        self._words = tokenizer_model or b""
        heap, threads = config.heap_mb or 0, config.threads or 1
        young = min(YOUNG_MB + YOUNG_MB_PER_THREAD * threads, heap // 3)
        options = [
            *jvm_options(config),
            f"-Xmn{young}m",
            # Compile later: with Java's thresholds, code that runs only at the start is compiled,
            # which takes 0.3 s of CPU time.
            "-XX:CompileThresholdScaling=4",
            # stdout carries messages only. (DisplayVMOutputToStderr has no effect on crashes.)
            *("-XX:+DisplayVMOutputToStderr", "-Xlog:disable", "-Xlog:all=warning:stderr"),
        ]
        classpath = os.pathsep.join([str(JAR), str(konlpy_folder() / "java" / "kkma-2.0.jar")])
        settings = [threads, heap * READINGS_PER_MB, BUDGET, str(config.limit_work).lower()]
        command = ["-cp", classpath, "korlm.kkma.Worker", *map(str, settings)]
        process = self._popen([java_program(), *options, *command], dict(os.environ))
        with contextlib.suppress(OSError):
            crash_log(process.pid).unlink()  # left by an old process with the same id
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            send_lines(process.stdin, "0 words", [self._words])
            # No self-test with a user dictionary, whose words may change its tokens.
            tests = [] if self._words else [text.encode() for text in SELF_TEST]
            send_lines(process.stdin, "0 tokens", tests)
        return process

    def _send(self, stream: IO[bytes], number: int, job: Job) -> None:
        texts = ("" if job.output is None and is_blank(text) else text for text in job.texts)
        send_lines(stream, f"{number} {job.output or 'tokens'}", list(map(encode, texts)))

    def _received(self, message: Message, data: bytes) -> tuple[Message, Results | None]:
        if "ready" in message:
            try:
                self._check(message["ready"], read_list(message["columns"], data))
            except TokenizerError as error:
                message = {"failed": str(error)}
            return message, None
        job = self.jobs.get(message.get("id", -1))
        if job is None:
            return message, None
        read = read_columns if job.output is None and job.batch is not None else read_list
        return message, read(message["columns"], data)

    def exit_reason(self) -> str:
        """Return why the process ended, from Java's crash log if there is one."""
        with contextlib.suppress(OSError):
            return crash_reason(crash_log(self.process.pid).read_text("utf-8", "replace"))
        return super().exit_reason()

    def _check(self, num_entries: int, analyses: Sequence[Analysis]) -> None:
        if num_entries != NUM_ENTRIES:
            raise incomplete(f"Kkma's dictionary has {num_entries} entries", self._config)
        if not self._words:
            check_self_test([analysis.morphs for analysis in analyses], self._config)


def encode(text: str) -> bytes:
    r"""Return a text as UTF-8; surrogates become characters if they are pairs, else U+FFFD.

    >>> encode("\ud83d\ude00 \ud83d").decode() == "\U0001f600 \ufffd"
    True
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        pairs = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return pairs.encode()


def send_lines(stream: IO[bytes], head: str, lines: Sequence[bytes]) -> None:
    """Send a frame of lines to the process, in the format that ``Worker.java`` reads."""
    lengths = struct.pack(f"<{len(lines)}I", *map(len, lines))
    send_frame(stream, f"{head} {len(lines)}".encode("ascii"), lengths + b"".join(lines))


def split_buffers(sizes: Sequence[int], data: bytes) -> Iterator[memoryview]:
    """Yield the buffers of an answer, which are padded to eight bytes each.

    ``sizes`` are those of the buffers without padding, in the order of ``Columns.java``.
    """
    begin, whole = 0, memoryview(data)
    for size in sizes:
        yield whole[begin : begin + size]
        begin += -(-size // 8) * 8


def read_columns(sizes: Sequence[int], data: bytes) -> pa.RecordBatch:
    """Return the record batch of an answer, without copying ``data``."""
    import pyarrow as pa

    from korlm.tokenizers.columns import ANALYSIS

    buffers = list(map(pa.py_buffer, split_buffers(sizes, data)))
    starts, morph_ends, morphs, tag_ends, tags, eojeol = buffers[:6]
    status_ends, statuses, dropped, seconds, span_starts, spans = buffers[6:]
    num_lines, num_tokens = dropped.size // 4, eojeol.size // 4

    def lists(starts: pa.Buffer, values: pa.Array) -> pa.Array:
        kind = pa.list_(values.type)
        return pa.Array.from_buffers(kind, num_lines, [None, starts], children=[values])

    def array(kind: pa.DataType, length: int, *buffers: pa.Buffer) -> pa.Array:
        return pa.Array.from_buffers(kind, length, [None, *buffers])

    columns = [
        lists(starts, array(pa.string(), num_tokens, morph_ends, morphs)),
        lists(starts, array(pa.string(), num_tokens, tag_ends, tags)),
        lists(starts, array(pa.int32(), num_tokens, eojeol)),
        array(pa.string(), num_lines, status_ends, statuses),
        array(pa.int32(), num_lines, dropped),
        array(pa.float32(), num_lines, seconds),
        lists(span_starts, array(pa.int32(), spans.size // 4, spans)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=ANALYSIS)


def read_list(sizes: Sequence[int], data: bytes) -> list[Analysis]:
    """Return the analyses of an answer, without importing Arrow, which takes 0.3 s."""
    buffers = list(split_buffers(sizes, data))
    starts, eojeol, dropped, span_starts, spans = (_numbers(buffers[n]) for n in (0, 5, 8, 10, 11))
    morphs, tags, statuses = (_texts(*buffers[n : n + 2]) for n in (1, 3, 6))
    seconds = _numbers(buffers[9], "f")
    columns = [
        *(
            [values[i:j] for i, j in itertools.pairwise(starts)]
            for values in (morphs, tags, eojeol)
        ),
        *(statuses, dropped, seconds),
        [tuple(spans[i:j]) for i, j in itertools.pairwise(span_starts)],
    ]
    return [Analysis(*row) for row in zip(*columns, strict=True)]


def _numbers(buffer: memoryview, kind: str = "i") -> list[Any]:
    return list(struct.unpack(f"<{len(buffer) // 4}{kind}", buffer))


def _texts(ends: memoryview, texts: memoryview) -> list[str]:
    data = bytes(texts)
    return [data[i:j].decode() for i, j in itertools.pairwise(_numbers(ends))]


def check_self_test(results: Sequence[Sequence[str] | str], config: KkmaConfig) -> None:
    """Raise ``TokenizerError`` if results are not the tokens of ``SELF_TEST``.

    A result may also be the name of an exception.
    """
    for (text, expected), result in zip(SELF_TEST.items(), results, strict=True):
        morphs = result if isinstance(result, str) else " ".join(result)
        if morphs != expected:
            raise incomplete(f"Kkma analyzes {text!r} as {morphs!r}, not {expected!r}", config)


def incomplete(problem: str, config: KkmaConfig) -> TokenizerError:
    """Return the error that Kkma's dictionary is incomplete."""
    return TokenizerError(
        f"{problem}: its dictionary is incomplete; set tokenizer.heap_mb more than {config.heap_mb}"
    )
