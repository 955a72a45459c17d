"""What each station of a preparation on a cluster costs, and from that a plan for a large corpus.

    python scripts/bench/cluster.py FILE [--tokenizer kkma] [--gigabytes 100] [--nodes 64]
        [--cores 32] [--sizes 20 200]

FILE is any UTF-8 text of a few MB. Times are seconds of CPU, so that other programs on the machine
disturb them little; MB are those of the text in UTF-8. What the asking process spends is the
difference between corpora of two sizes (copies of FILE, tokenizer=eojeol, one local worker), each
in a process of its own; its memory is printed for both. The plan takes one core for what one
process does alone, and all cores of all nodes for the workers.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
from korlm.dataset.cluster.task import ShardText
from korlm.dataset.storage.shard_writer import ShardWriter

from korlm.config import ClusterConfig, CorpusConfig, KkmaConfig, TokenizerConfig, VocabConfig
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import content_digest, find_sources
from korlm.dataset.prepare import assemble
from korlm.dataset.storage.shards import shard_path
from korlm.dataset.text_batches import TextBatch, batch_lines
from korlm.dataset.tokenize import tokenize_corpus
from korlm.tokenizers.workers.pool import TokenizerPool

Result = TypeVar("Result")


def cpu(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of CPU that this process spends on something, in all its threads."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def worker_rates(
    tokenizer: TokenizerConfig, batches: list[TextBatch], folder: Path
) -> tuple[float, float, float]:
    """Seconds of CPU to tokenize, to write the shard, and MiB of the tokenizer's process."""
    with TokenizerPool(tokenizer) as pool:
        normal = [batch.normalized for batch in batches]
        list(pool.map(normal))  # Java compiles what runs often
        here = psutil.Process()
        processes = here.children() or [here]
        before = sum(sum(p.cpu_times()[:2]) for p in processes)
        columns = list(pool.map(normal))
        tokenizing = sum(sum(p.cpu_times()[:2]) for p in processes) - before
        memory = sum(p.memory_info().rss for p in processes) / 2**20

    def write() -> None:
        with ShardWriter(folder) as writer:
            for batch, made in zip(batches, columns, strict=True):
                writer.write(batch, made)

    writing, _ = cpu(write)
    return tokenizing, writing, memory


def corpus_of(text: Path, valid: Path) -> CorpusConfig:
    """One document a file, as the fewest and the largest documents are."""
    return CorpusConfig(name="bench", train=[str(text)], valid=[str(valid)])


def ask(text: Path, folder: Path) -> None:
    """What an asking process spends, in a process that does nothing else."""
    corpus = corpus_of(text, text.with_name("valid.txt"))
    sources = find_sources(corpus)
    config = ClusterConfig(cluster="local", workers=1)

    def work() -> None:
        eojeol = TokenizerConfig(name="eojeol")
        tokenize_corpus(corpus, eojeol, sources, folder / "tokens", folder, False, config)

    seconds, _ = cpu(work)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # of Linux: in KiB


def measure_asking(path: Path, sizes: list[int], folder: Path) -> tuple[float, list[float]]:
    """Seconds of CPU for each MB of text, and peak memory for each size in MiB."""
    copy = path.read_bytes().rstrip(b"\n") + b"\n"
    done: list[tuple[float, float, float]] = []
    for size in sizes:
        text = folder / f"{size}.txt"
        with open(text, "wb") as file:
            for _ in range(max(1, round(size * 1e6 / len(copy)))):
                file.write(copy)
        command = [sys.executable, __file__, str(text), "--child", str(folder / str(size))]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode != 0:
            raise SystemExit(child.stderr)
        seconds, peak = map(float, child.stdout.split())
        done.append((text.stat().st_size / 1e6, seconds, peak))
    (small, first, _), (large, last, _) = done[0], done[-1]
    return (last - first) / (large - small), [peak for _, _, peak in done]


def assembling(folder: Path, share: float) -> tuple[float, float]:
    """Seconds of CPU to count and to make ids of each MB of text, and MB of ids.

    The one shard that lies in the folder stands for four and for forty of them.
    """
    seconds, sizes = [], []
    for count in (4, 40):
        tokens, target = folder / f"tokens-{count}", folder / f"assembled-{count}"
        tokens.mkdir()
        for number in range(count):
            os.link(folder / "train-00000.parquet", shard_path(tokens, "train", number))
        seconds.append(cpu(lambda: assemble(target, tokens, VocabConfig(), {}))[0])  # noqa: B023
        sizes.append((target / "ids" / "train.npy").stat().st_size / 1e6)
    return (seconds[1] - seconds[0]) / 36 / share, (sizes[1] - sizes[0]) / 36 / share


def measure(path: Path, tokenizer: TokenizerConfig, folder: Path) -> dict[str, float]:
    """Seconds of CPU for each MB of text, and sizes."""
    corpus = corpus_of(path, folder / "valid.txt")
    sources = find_sources(corpus)
    size = path.stat().st_size / 1e6
    found: dict[str, float] = {"size": size}
    found["hash"] = cpu(lambda: content_digest(sources[0]))[0] / size
    found["read"] = cpu(lambda: [None for _ in read_corpus(corpus, sources)])[0] / size
    batches = list(batch_lines(read_corpus(corpus, sources)))
    first = [batch for batch in batches if batch.split == "train" and batch.shard == 0]
    share = sum(len(t.encode()) + 1 for batch in first for t in batch.texts) / 1e6
    packing, packed = cpu(lambda: ShardText.pack(first))
    found["pack"] = packing / share
    found["sent"] = (len(packed.text) + len(packed.blocks) + len(packed.lengths)) / 1e6 / share
    tokenizing, writing, found["memory"] = worker_rates(tokenizer, first, folder)
    found["tokenize"], found["write"] = tokenizing / share, writing / share
    found["shards"] = (folder / "train-00000.parquet").stat().st_size / 1e6 / share
    found["assemble"], found["ids"] = assembling(folder, share)
    return found


def plan(found: dict[str, float], gigabytes: float, cores: int) -> list[tuple[str, str, float]]:
    """What is done, by whom, and minutes."""
    megabytes = gigabytes * 1000 / 60
    return [
        ("hashing the files", "one core", found["hash"] * megabytes),
        ("reading all text twice, sending, keeping shards", "one core", found["ask"] * megabytes),
        ("tokenizing", "workers", (found["tokenize"] + found["write"]) * megabytes / cores),
        ("counting, spelling, ids", "one core", found["assemble"] * megabytes),
    ]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tokenizer", default="kkma")
    parser.add_argument("--gigabytes", type=float, default=100)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--cores", type=int, default=32, help="of a node")
    parser.add_argument("--sizes", type=int, nargs=2, default=[20, 200], help="in MB")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        ask(options.file, options.child)
        return
    make: Any = KkmaConfig if options.tokenizer == "kkma" else TokenizerConfig
    more = {"threads": 1, "cache_size_mb": 0} if options.tokenizer == "kkma" else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "valid.txt").write_text("가\n", encoding="utf-8")
        found = measure(options.file, make(name=options.tokenizer, **more), folder)
        found["ask"], peaks = measure_asking(options.file, options.sizes, folder)
    print(
        f"{found['size']:.1f} MB of text, tokenizer={options.tokenizer}; MB a second of one core:"
    )
    for key in ("hash", "read", "pack", "ask", "tokenize", "write", "assemble"):
        print(f"  {key:10} {1 / max(found[key], 1e-9):8.1f}")
    print(
        f"for each MB of text: {found['sent']:.2f} MB to a worker, {found['shards']:.2f} MB of "
        f"shards back, {found['ids']:.2f} MB of ids\n"
        f"the tokenizer's process {found['memory']:.0f} MiB; the asking one "
        + ", ".join(f"{p:.0f} MiB for {n} MB" for p, n in zip(peaks, options.sizes, strict=True))
    )
    cores = options.nodes * options.cores
    print(f"\n{options.gigabytes:g} GB on {options.nodes} nodes of {options.cores} cores, minutes:")
    for what, who, minutes in plan(found, options.gigabytes, cores):
        print(f"  {what:48} {who:9} {minutes:7.1f}")
    busy = (found["tokenize"] + found["write"]) / found["ask"]
    print(f"one asking process keeps {busy:.0f} cores of workers busy")


if __name__ == "__main__":
    main()
