"""A preparation on Dask workers: two workers against one, what the driver needs, kills, stages.

    python scripts/bench/cluster.py FILE [--mb 40] [--tokenizer eojeol] [--kills 20] [--gb 0]
        [--nodes 64] [--cores 32] [--storage 2]

FILE is any UTF-8 text; corpora are copies of it, of which each line is a document. Workers are
processes of this machine with one thread each. Each preparation is a process of its own; times
are those of its stages, without the start of the workers. What the driver needs for each GB is the
difference between corpora of two sizes. ``--gb`` prepares one more corpus of that
size. The estimate for 100 GB divides the work of the workers, as measured here, by all cores of all
nodes, and what is read and written by the bandwidth of the shared storage (``--storage``, in GB/s).
Exit code 1 if any preparation, killed or not, has other bytes than that of a single process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from korlm.config import ClusterConfig, CorpusConfig, DocumentUnit, TokenizerConfig, VocabConfig
from korlm.config import KkmaConfig as Kkma
from korlm.dataset.executors.base import Executor

PIECE_MB = 2.0  # of small corpora, so that there are pieces to kill
STAGES = {  # function that runs for each piece -> stage
    "_digest": "digests",
    "scan_piece": "scan",
    "tokenize_piece": "tokens",
    "tokenize_on_worker": "tokens",
    "merge_counts": "counts",
    "build_encoder": "vocabulary",
    "encode_piece": "ids",
}


def time_stages(kind: type[Executor], seconds: dict[str, float]) -> None:
    """Note how long each stage takes."""
    run_all = kind.run_all

    def timed(self: Executor, function: Any, items: Any) -> Iterator[Any]:
        name = getattr(function, "func", function).__name__
        started = time.perf_counter()
        yield from run_all(self, function, items)
        stage = STAGES[name]
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started

    kind.run_all = timed  # type: ignore[method-assign]


def child(text: Path, outputs: Path, workers: int, tokenizer: str, piece_mb: float) -> None:
    """Prepare in this process, which does nothing else; print what it took."""
    from korlm.dataset.executors.dask_executor import DaskExecutor
    from korlm.dataset.prepare import prepare

    seconds: dict[str, float] = {}
    time_stages(DaskExecutor if workers else Executor, seconds)
    corpus = CorpusConfig(name="bench", files=[str(text)], document_unit=DocumentUnit.line)
    config: TokenizerConfig
    if tokenizer == "kkma":
        config = Kkma(name="kkma", threads=1, cache_size_mb=0)
    else:
        config = TokenizerConfig(name=tokenizer)
    where = {"cluster": "local", "workers": workers} if workers else {}
    cluster = ClusterConfig(**where, piece_mb=piece_mb)  # type: ignore[arg-type]
    started = time.process_time()
    made = prepare(corpus, config, VocabConfig(max_size=50_000), outputs, False, cluster)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # of Linux: in KiB
    figures = {"cpu": time.process_time() - started, "peak_gb": peak, "seconds": seconds}
    print(json.dumps({**figures, "folder": str(made.folder)}))


def command(text: Path, outputs: Path, workers: int, options: argparse.Namespace) -> list[str]:
    """Return the command of a preparation."""
    words = [str(text), str(outputs), str(workers), options.tokenizer, str(options.piece_mb)]
    return [sys.executable, __file__, "--child", *words]


def run(text: Path, outputs: Path, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Prepare, and return what it took."""
    done = subprocess.run(
        command(text, outputs, workers, options), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def digest(folder: str) -> str:
    """Return the hash of all files but those with measured times, and of their names."""
    total = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in ("report.tsv", "manifest.json") and not name.startswith("reports/"):
            total.update(name.encode() + path.read_bytes())
    return total.hexdigest()


def kill(text: Path, outputs: Path, options: argparse.Namespace, seconds: float) -> int:
    """Prepare with two workers while a worker or the driver is killed; return how often."""
    dice = random.Random(1)
    kills = 0
    workers: list[psutil.Process] = []
    while kills < options.kills:
        with subprocess.Popen(
            command(text, outputs, 2, options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as driver:
            while driver.poll() is None and kills < options.kills:
                time.sleep(dice.uniform(0.2, 1.0) * seconds / 8)
                processes = psutil.Process(driver.pid).children(recursive=True)
                workers = [p for p in processes if "spawn_main" in " ".join(p.cmdline())]
                victim = driver if not workers or dice.random() < 0.3 else dice.choice(workers)
                try:
                    victim.send_signal(signal.SIGKILL)
                    kills += 1
                except (ProcessLookupError, psutil.NoSuchProcess):
                    pass
                if victim is driver:
                    break
            if driver.poll() is None and kills >= options.kills:
                driver.kill()
        psutil.wait_procs(workers, timeout=30)  # they end without their driver
        if (outputs / "prepared").exists() and list((outputs / "prepared").glob("bench-*")):
            break
    return kills


def write_text(source: Path, target: Path, megabytes: float) -> None:
    """Write copies of a text."""
    copy = source.read_bytes().rstrip(b"\n") + b"\n"
    with open(target, "wb") as file:
        for _ in range(max(1, round(megabytes * 1e6 / len(copy)))):
            file.write(copy)


def estimate(
    found: dict[str, Any], megabytes: float, driver: float, options: argparse.Namespace
) -> None:
    """Print the minutes that 100 GB take."""
    cores = options.nodes * options.cores
    total = 100_000
    rows = [
        (stage, "all cores", 2 * seconds / megabytes * total / cores / 60)
        for stage, seconds in found["seconds"].items()
    ]
    folder = Path(found["folder"])
    size = {
        kind: sum(p.stat().st_size for p in (folder / kind).iterdir()) / 1e6 / megabytes
        for kind in ("tokens", "ids")
    }
    # The text is read for its digest, twice in the scan and twice for its tokens.
    moved = 5 + 2 * size["tokens"] + size["ids"]
    rows.append(
        ("reading and writing", f"{options.storage:g} GB/s", moved * 100 / options.storage / 60)
    )
    rows.append(("driver", "one core", (found["cpu"] + driver * 100) / 60))
    print(f"\n100 GB on {options.nodes} nodes of {options.cores} cores, minutes:")
    for name, who, minutes in rows:
        print(f"  {name:22} {who:10} {minutes:7.1f}")
    print(f"bottleneck: {max(rows, key=lambda row: row[2])[0]}")


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--child"]:
        words = sys.argv[2:]
        child(Path(words[0]), Path(words[1]), int(words[2]), words[3], float(words[4]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--mb", type=float, default=40)
    parser.add_argument("--tokenizer", default="eojeol")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--gb", type=float, default=0)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--cores", type=int, default=32, help="of a node")
    parser.add_argument("--storage", type=float, default=2, help="GB/s of the shared storage")
    options = parser.parse_args()
    options.piece_mb = PIECE_MB
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        text = folder / "text.txt"
        write_text(options.file, text, options.mb)
        megabytes = text.stat().st_size / 1e6
        runs = {workers: run(text, folder / str(workers), workers, options) for workers in range(3)}
        for workers, found in runs.items():
            stages = ", ".join(f"{n} {s:.1f}" for n, s in found["seconds"].items())
            print(f"{workers} workers: {sum(found['seconds'].values()):.1f} s ({stages})")
        one, two = (sum(runs[workers]["seconds"].values()) for workers in (1, 2))
        print(f"two workers are {one / two:.2f} times as fast as one")
        digests = {digest(found["folder"]) for found in runs.values()}
        kills = kill(text, folder / "killed", options, two) if options.kills else 0
        if kills:
            digests.add(digest(run(text, folder / "killed", 2, options)["folder"]))
            print(f"{kills} times kill -9 of workers and drivers")
        print("identical bytes" if len(digests) == 1 else "OTHER BYTES")
        (first, small), (last, size) = (runs[2], megabytes), (runs[2], megabytes)
        if not options.gb:
            write_text(options.file, text, 4 * megabytes)
            last, size = run(text, folder / "four", 2, options), text.stat().st_size / 1e6
        else:
            options.piece_mb = ClusterConfig().piece_mb
            write_text(options.file, text, options.gb * 1000)
            last, size = run(text, folder / "large", 2, options), text.stat().st_size / 1e6
            stages = ", ".join(f"{n} {s:.0f} s" for n, s in last["seconds"].items())
            print(f"{size / 1000:.1f} GB: {stages}")
        gigabytes = (size - small) / 1000
        driver = (last["cpu"] - first["cpu"]) / gigabytes
        print(
            f"driver, from {small:.0f} to {size:.0f} MB of text: {driver:.2f} s of CPU and "
            f"{(last['peak_gb'] - first['peak_gb']) / gigabytes:.2f} GB of memory for each GB; "
            f"{first['cpu']:.1f} s and {first['peak_gb']:.2f} GB for {small:.0f} MB"
        )
        estimate(last, size, driver, options)
    sys.exit(len(digests) != 1)


if __name__ == "__main__":
    main()
