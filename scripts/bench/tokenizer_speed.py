"""Compare the speed of tokenizers on the same lines, in characters per second, after a warmup.

    python scripts/bench/tokenizer_speed.py FILE TRAIN [--names kkma okt ...] [--threads 1 2]

FILE and TRAIN are texts in UTF-8 with one sentence per line. Each tokenizer reads the first
--warmup lines of TRAIN, and is then measured on FILE; sentencepiece is trained on all of TRAIN. The
characters per second are those by the clock and by the processor time of all processes; each
is followed by its ratio to that of the first tokenizer of --names. "konlpy" is KoNLPy's Kkma.
Tokenizers that are not installed are skipped.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from bench_utils import Seconds, argument_parser, cpu_seconds, time_calls

from korlm.config import KkmaConfig, KkmaEngine, TokenizerConfig, WorkerConfig, registry
from korlm.corpus.normalization import normalize
from korlm.text.unicode import is_blank
from korlm.tokenizers.registry import train_tokenizer
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.errors import TokenizerError

NAMES = [
    "kkma",
    "konlpy",
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
BATCH = 50  # lines


def tokenizer_config(name: str, threads: int) -> TokenizerConfig:
    """Return the default settings of a tokenizer, with this number of threads."""
    config: TokenizerConfig
    if name == "konlpy":
        config = KkmaConfig(name="kkma", engine=KkmaEngine.konlpy)
    else:
        config = registry.schemas("tokenizer")[name](name=name)
    if isinstance(config, WorkerConfig):
        config.threads = threads
        config.line_timeout_s = 600  # no line is split because the machine is busy
    return config


def tokenize(pool: TokenizerPool, lines: list[str]) -> None:
    """Tokenize lines and discard the tokens."""
    for _ in pool.map(lines[begin : begin + BATCH] for begin in range(0, len(lines), BATCH)):
        pass


def measure(
    name: str, threads: int, warmup: list[str], lines: list[str], train: list[str]
) -> Seconds:
    """Return the time that a tokenizer takes for the lines."""
    config = tokenizer_config(name, threads)
    with TokenizerPool(config, train_tokenizer(config, train)) as pool:
        tokenize(pool, warmup)
        before = cpu_seconds(os.getpid())
        wall = time_calls(partial(tokenize, pool, lines)).wall
        return Seconds(wall, cpu_seconds(os.getpid()) - before)


def read(path: Path) -> list[str]:
    """Return the normalized lines of a file that are not blank."""
    texts = path.read_text(encoding="utf-8").split("\n")
    return [normalize(text) for text in texts if not is_blank(text)]


def main() -> None:
    """Measure all tokenizers and print a row for each."""
    parser = argument_parser(__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="text that is measured")
    parser.add_argument("train", type=Path, metavar="TRAIN", help="text for warmup and training")
    parser.add_argument("--names", nargs="+", default=NAMES, help="tokenizers to measure")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to measure"
    )
    parser.add_argument("--warmup", type=int, default=5000, help="lines of TRAIN for the warmup")
    options = parser.parse_args()
    lines, train = read(options.file), read(options.train)
    num_chars = sum(map(len, lines))
    for threads in options.threads:
        first = None
        for name in options.names:
            try:
                taken = measure(name, threads, train[: options.warmup], lines, train)
            except TokenizerError as error:
                print(f"{name:14} skipped: {error}")
                continue
            first = first or taken
            print(
                f"{name:14} {threads} threads {num_chars / taken.wall:12,.0f} characters/s "
                f"{first.wall / taken.wall:8.3f} {num_chars / taken.cpu:12,.0f} by processor time "
                f"{first.cpu / taken.cpu:8.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
