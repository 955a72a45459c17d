"""Characters a second of tokenizers, one after the other on the same lines, warm.

    python scripts/bench/tokenizers.py FILE TRAIN [--names kkma okt ...] [--threads 1 2]

Both are UTF-8 text with a line a sentence. Each tokenizer reads the first ``--warm`` lines of TRAIN
to warm up and those of FILE for the figure; sentencepiece learns from the whole of TRAIN. Figures
belong to the machine: compare those of one run, in the last column with the first name's.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from korlm.config import TokenizerConfig, WorkerConfig, registry
from korlm.corpus.normalization import normalize
from korlm.text.unicode import is_blank
from korlm.tokenizers.registry import train_tokenizer
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import TokenizerError

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
    config: TokenizerConfig = registry.schemas("tokenizer")[name](name=name)
    if isinstance(config, WorkerConfig):
        config.threads = threads
    return config


def measure(name: str, threads: int, warm: list[str], lines: list[str], train: list[str]) -> float:
    """Characters a second."""
    config = config_of(name, threads)
    with TokenizerPool(config, train_tokenizer(config, train)) as pool:
        for part in (warm, lines):
            began = time.perf_counter()
            for _ in pool.map(part[begin : begin + 50] for begin in range(0, len(part), 50)):
                pass
            seconds = time.perf_counter() - began
    return sum(map(len, lines)) / seconds


def read(path: Path) -> list[str]:
    """The lines of a file that are not blank."""
    texts = path.read_text(encoding="utf-8").split("\n")
    return [normalize(text) for text in texts if not is_blank(text)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--warm", type=int, default=5000)
    options = parser.parse_args()
    lines, train = read(options.file), read(options.train)
    for threads in options.threads:
        first = None
        for name in options.names:
            try:
                speed = measure(name, threads, train[: options.warm], lines, train)
            except TokenizerError as error:
                print(f"{name:14} skipped: {error}")
                continue
            first = first or speed
            print(
                f"{name:14} {threads} threads {speed:12,.0f} characters/s {speed / first:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
