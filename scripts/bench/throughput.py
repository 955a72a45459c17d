"""MB of text a second from files to ids with a light tokenizer, and the memory it takes.

    python scripts/bench/throughput.py FILE [--sizes 100 1000] [--document file]

FILE is any UTF-8 text. The corpus is made of it in a temporary folder: its lines over and over,
other words and numbers in each copy, an empty line now and then. Each size goes through
``prepare`` with tokenizer=eojeol in a process of its own.
Its peer is a plain loop over the same file, ``normalize("NFC", line).split()``; seconds of CPU are
compared, so that other programs on the machine disturb them little. Stated limit: 1.2 times the
memory for the largest size against the smallest; exit code 1 beyond it.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

MEMORY = 1.2


def write_corpus(source: Path, target: Path, megabytes: int) -> None:
    """A text of this size: copies of the source, each with other words and numbers."""
    lines = source.read_text(encoding="utf-8").split("\n")
    words = sorted({word for line in lines for word in line.split()})
    dice = random.Random(1)
    written = 0
    with open(target, "wb") as file:
        while written < megabytes * 10**6:
            digits = str.maketrans("0123456789", "".join(dice.sample("0123456789", 10)))
            copy = []
            for line in lines:
                units = line.translate(digits).split(" ")
                units[dice.randrange(len(units))] = dice.choice(words)
                copy.append(" ".join(units) + "\n" * (1 + (dice.random() < 0.1)))
            written += file.write("".join(copy).encode())


def tokenize(text: Path, folder: Path, document: str) -> None:
    """What is measured, in a process that does nothing else."""
    from korlm.config import CorpusConfig, DocumentUnit, TokenizerConfig, VocabConfig
    from korlm.dataset.prepare import prepare

    # Given splits: a text of one document has to be in one of them.
    valid = text.with_name("valid.txt")
    corpus = CorpusConfig(
        name="bench", train=[str(text)], valid=[str(valid)], document_unit=DocumentUnit(document)
    )
    started = time.perf_counter()
    prepare(corpus, TokenizerConfig(name="eojeol"), VocabConfig(), folder, progress=False)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)  # of Linux: in KiB


def seconds_of_plain_loop(text: Path) -> float:
    """Seconds of CPU to normalize and split each line in this process, and to keep nothing."""
    started = time.process_time()
    with open(text, encoding="utf-8") as file:
        for line in file:
            unicodedata.normalize("NFC", line).split()
    return time.process_time() - started


def measure(text: Path, document: str) -> tuple[float, float, float]:
    """Seconds, seconds of all cores and peak memory in MiB of one pass."""
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        command = [sys.executable, __file__, str(text), "--child", folder, "--document", document]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    seconds, cpu, peak = map(float, done.stdout.split())
    return seconds, cpu, peak


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="in MB")
    parser.add_argument("--document", default="file", help="file, blank_line or line")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        tokenize(options.file, options.child, options.document)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as temporary:
        text = Path(temporary) / "train.txt"
        (Path(temporary) / "valid.txt").write_text("가\n", encoding="utf-8")
        for size in options.sizes:
            write_corpus(options.file, text, size)
            megabytes = text.stat().st_size / 1e6
            seconds, cpu, peak = measure(text, options.document)
            plain = seconds_of_plain_loop(text)
            peaks.append(peak)
            print(
                f"{megabytes:8.1f} MB of text: {megabytes / seconds:5.1f} MB/s, "
                f"{megabytes / cpu:5.1f} MB a second of one core, {plain / cpu:.2f} times the "
                f"plain loop ({megabytes / plain:.1f}); peak {peak:6.1f} MiB"
            )
    ratio = peaks[-1] / peaks[0]
    print(f"memory {ratio:.3f} times (limit {MEMORY})")
    sys.exit(ratio > MEMORY)


if __name__ == "__main__":
    main()
