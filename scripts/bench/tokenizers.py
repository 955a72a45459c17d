"""Characters a second of tokenizers, one after the other on the same lines, warm.

    python scripts/bench/tokenizers.py FILE [--names kkma okt ...] [--threads 1 2] [--lines 2000]

FILE is UTF-8 text with a line a sentence. Each tokenizer reads the first half of the lines to warm
up and the second for the figure; sentencepiece learns from the lines of ``--train``, or from FILE.
Figures belong to the machine: compare those of one run, in the last column with the first name's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from korlm.config import SCHEMAS, TokenizerConfig, WorkerConfig
from korlm.data.build import learn
from korlm.data.corpus import normalize
from korlm.data.pool import TokenizerPool
from korlm.errors import TokenizerError

NAMES = [
    "kkma",
    "okt",
    "komoran",
    "hannanum",
    "kiwi",
    "mecab",
    "sentencepiece",
    "syllable",
    "eojeol",
    "jamo",
]


def config_of(name: str, threads: int) -> TokenizerConfig:
    """The default settings of a tokenizer."""
    (kind,) = (schema for schema in SCHEMAS["tokenizer"].values() if name in schema._names)
    config: TokenizerConfig = kind(name=name)
    if isinstance(config, WorkerConfig):
        config.threads = threads
    return config


def measure(name: str, threads: int, lines: list[str], train: list[str]) -> float:
    """Characters a second of the second half."""
    config = config_of(name, threads)
    batches = [lines[begin : begin + 50] for begin in range(0, len(lines), 50)]
    half = len(batches) // 2
    with TokenizerPool(config, learn(config, train)) as pool:
        for part in (batches[:half], batches[half:]):
            began = time.perf_counter()
            for _ in pool.map(part):
                pass
            seconds = time.perf_counter() - began
    return sum(len(line) for batch in batches[half:] for line in batch) / seconds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lines", type=int, default=2000)
    options = parser.parse_args()
    texts = options.file.read_text(encoding="utf-8").split("\n")
    lines = [normalize(line) for line in texts[: options.lines] if line.strip()]
    train = lines
    if options.train:
        train = [normalize(line) for line in options.train.read_text("utf-8").split("\n")]
    for threads in options.threads:
        first = None
        for name in options.names:
            try:
                speed = measure(name, threads, lines, train)
            except TokenizerError as error:
                print(f"{name:14} {error}")
                continue
            first = first or speed
            print(f"{name:14} {threads} threads {speed:12,.0f} characters/s {speed / first:8.3f}")


if __name__ == "__main__":
    main()
