"""Measure MB of text per second from text files to ids, and the memory.

    python scripts/bench/throughput.py FILE [--sizes 100 1000] [--document file]
        [--tokenizer eojeol]

FILE is any text in UTF-8. Each corpus is written to a temporary folder: copies of FILE with other
words and digits in each copy, and blank lines now and then. ``prepare`` runs in a process of its
own; CPU time and resident memory include its children. It is compared with a plain loop over the
same file, ``normalize("NFC", line).split()``, by CPU time, which other programs disturb little.
Exit code 1 if the largest corpus takes over 1.2 times the memory of the smallest.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

from bench_utils import argument_parser, resident_mb, time_calls

MEMORY_LIMIT = 1.2
INTERVAL = 0.02  # seconds between two measurements of memory


def write_corpus(source: Path, target: Path, megabytes: int) -> None:
    """Write copies of the source, each with other words and digits, until the size is reached."""
    lines = source.read_text(encoding="utf-8").split("\n")
    words = sorted({word for line in lines for word in line.split()})
    rng = random.Random(1)
    written = 0
    with open(target, "wb") as file:
        while written < megabytes * 10**6:
            digits = str.maketrans("0123456789", "".join(rng.sample("0123456789", 10)))
            copy = []
            for line in lines:
                units = line.translate(digits).split(" ")
                units[rng.randrange(len(units))] = rng.choice(words)
                copy.append(" ".join(units) + "\n" * (1 + (rng.random() < 0.1)))
            written += file.write("".join(copy).encode())


def prepare_corpus(text: Path, folder: Path, document: str, tokenizer: str) -> None:
    """Prepare a corpus in this process; print wall and CPU seconds."""
    from korlm.config import CorpusConfig, DocumentUnit, VocabConfig, registry
    from korlm.dataset.prepare import prepare

    # Fixed splits: a text of one document belongs to a single split.
    valid = text.with_name("valid.txt")
    corpus = CorpusConfig(
        name="bench", train=[str(text)], valid=[str(valid)], document_unit=DocumentUnit(document)
    )
    config = registry.schemas("tokenizer")[tokenizer](name=tokenizer)
    seconds = time_calls(lambda: prepare(corpus, config, VocabConfig(), folder, False))
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps([seconds.wall, sum(usage.ru_utime + usage.ru_stime for usage in usages)]))


def plain_loop(text: Path) -> None:
    """Normalize and split each line of a file."""
    with open(text, encoding="utf-8") as file:
        for line in file:
            unicodedata.normalize("NFC", line).split()


def measure(text: Path, options: argparse.Namespace) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak memory in MiB of a preparation."""
    peak = 0.0
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        command = [sys.executable, __file__, str(text), "--prepare-in", folder]
        command += ["--document", options.document, "--tokenizer", options.tokenizer]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            while child.poll() is None:
                peak = max(peak, resident_mb(child.pid))
                time.sleep(INTERVAL)
            printed = child.stdout.read() if child.stdout else ""
    if child.returncode:
        raise SystemExit(child.returncode)
    wall, cpu = json.loads(printed.splitlines()[-1])
    return wall, cpu, peak


def main() -> None:
    """Measure all sizes and print a row for each."""
    parser = argument_parser(__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="text in UTF-8")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="in MB")
    parser.add_argument(
        "--document",
        default="file",
        choices=["file", "blank_line", "line"],
        help="what a document is (corpus.document_unit)",
    )
    parser.add_argument("--tokenizer", default="eojeol", help="a tokenizer of korlm")
    parser.add_argument("--prepare-in", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare_in:
        prepare_corpus(options.file, options.prepare_in, options.document, options.tokenizer)
        return
    peaks = []
    with tempfile.TemporaryDirectory() as temporary:
        text = Path(temporary) / "train.txt"
        (Path(temporary) / "valid.txt").write_text("가\n", encoding="utf-8")
        for size in options.sizes:
            write_corpus(options.file, text, size)
            megabytes = text.stat().st_size / 1e6
            wall, cpu, peak = measure(text, options)
            plain = time_calls(lambda: plain_loop(text)).cpu
            peaks.append(peak)
            print(
                f"{megabytes:8.1f} MB of text: {megabytes / wall:5.1f} MB/s, "
                f"{megabytes / cpu:5.1f} MB per CPU second, {plain / cpu:.2f} times the speed of "
                f"the plain loop ({megabytes / plain:.1f}); peak {peak:6.1f} MiB"
            )
    ratio = peaks[-1] / peaks[0]
    print(f"memory of the largest corpus: {ratio:.3f} times the smallest (limit {MEMORY_LIMIT})")
    sys.exit(ratio > MEMORY_LIMIT)


if __name__ == "__main__":
    main()
