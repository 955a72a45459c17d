"""A large corpus from files to ids: seconds, processor time and memory of each stage.

    python scripts/bench/scale.py FILE [FILE ...] [--gb 0.2 1] [--tokenizer kkma] [--workers 0 ...]
        [--document line] [--report] [--kill] [--kills 20] [--piece-mb 64] [--folder FOLDER]

The corpora are copies of the FILEs (UTF-8 text), one after the other, until they have the size;
each line, or each text between blank lines, is a document with an id of its own. Lines that repeat
come from the line cache, so with Kkma the figures are about everything but Kkma: the FILEs alone
are prepared first to fill the cache. ``--workers 1 2`` prepares each corpus on Dask, which has no
line cache, with one and with two worker processes of one thread; 0 is this command's own process.
``--report`` includes the statistics that ``korlm.prepare`` prints. ``--kill`` ends the preparation
of the largest corpus with SIGKILL in the middle of the tokenizing, and measures the run that
continues it. ``--kills`` prepares each corpus again while workers and drivers are killed so often;
``--piece-mb 2`` gives a small corpus enough pieces. Exit code 1 if preparations of one corpus have
different bytes. The folder of temporary files (``--folder``) needs three times the size of the
largest corpus.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from korlm.config import (
    ClusterConfig,
    CorpusConfig,
    DocumentUnit,
    KkmaConfig,
    TokenizerConfig,
    VocabConfig,
)

KILL_AT = 0.4  # share of the pieces that are finished when the preparation is killed


class Stages:
    """Wall-clock and processor time of this process and its children in each stage."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {}  # stage -> seconds, of processor, peak GB

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add what happens within to a stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        figures = self.figures.setdefault(name, [0.0, 0.0, 0.0])
        figures[0] += time.perf_counter() - wall
        figures[1] += time.process_time() - cpu
        figures[2] = peak_gb()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Count the calls of a function as a stage."""
        function: Callable[..., Any] = getattr(owner, attribute)

        def measured(*args: Any, **options: Any) -> Any:
            with self.measure(name):
                return function(*args, **options)

        setattr(owner, attribute, measured)

    def wrap_executor(self, kind: Any) -> None:
        """Count what an executor runs for all pieces as stages."""
        run_all = kind.run_all
        names = {
            "scan_piece": "scan",
            "merge_counts": "counts",
            "build_encoder": "vocabulary",
            "encode_piece": "ids",
        }

        def measured(executor: Any, function: Any, items: Any) -> Iterator[Any]:
            called = getattr(function, "func", function).__name__
            name = names.get(called, "digests" if "digest" in called else "tokens")
            with self.measure(name):
                yield from run_all(executor, function, items)

        kind.run_all = measured


def peak_gb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # of Linux: in KiB


def child(options: argparse.Namespace, text: Path, outputs: Path, workers: int) -> None:
    """Prepare in this process, as ``korlm.prepare`` does, and print the figures."""
    from korlm.dataset import assemble, prepare
    from korlm.dataset.executors.base import Executor
    from korlm.dataset.statistics import collect
    from korlm.detokenizers import registry
    from korlm.utils.io import checksums

    stages = Stages()
    stages.wrap(prepare, "plan_pieces", "plan")
    stages.wrap(assemble, "link_files", "links")
    stages.wrap(assemble, "fsync_file", "fsync")
    stages.wrap(assemble, "write_report", "report.tsv")
    stages.wrap(checksums, "with_checksums", "manifest")
    stages.wrap(prepare, "open_prepared", "open")
    stages.wrap(registry, "ensure_trained", "detokenizer")
    if workers:
        from korlm.dataset.executors.dask_executor import DaskExecutor

        stages.wrap_executor(DaskExecutor)
        cluster = ClusterConfig(cluster="local", workers=workers, piece_mb=options.piece_mb)
    else:
        stages.wrap_executor(Executor)
        cluster = ClusterConfig(piece_mb=options.piece_mb)
    corpus = CorpusConfig(
        name="scale", files=[str(text)], document_unit=DocumentUnit(options.document)
    )
    tokenizer: TokenizerConfig
    if options.tokenizer == "kkma":
        tokenizer = KkmaConfig(name="kkma", threads=1 if workers else None, cache_size_mb=4096)
    else:
        tokenizer = TokenizerConfig(name=options.tokenizer)
    with stages.measure("all"):
        made = prepare.prepare(
            corpus, tokenizer, VocabConfig(max_size=50_000), outputs, False, cluster
        )
        registry.ensure_trained(tokenizer.name, made.folder)
        if options.report:
            with stages.measure("statistics"):
                collect.collect(made)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    tokens = sum(stats.num_tokens for stats in made.stats.values())
    print(
        json.dumps(
            {
                "stages": stages.figures,
                "peak_gb": peak_gb(),
                "children_cpu": children.ru_utime + children.ru_stime,
                "folder": str(made.folder),
                "tokens": tokens,
            }
        )
    )


def command(options: argparse.Namespace, text: Path, outputs: Path, workers: int) -> list[str]:
    """Return the command of a preparation in a process of its own."""
    words = [*options.files, "--child", text, outputs, workers, "--tokenizer", options.tokenizer]
    words += ["--document", options.document, "--piece-mb", options.piece_mb]
    return [sys.executable, __file__, *map(str, words), *["--report"] * options.report]


def run(
    options: argparse.Namespace, text: Path, outputs: Path, workers: int, kill: bool = False
) -> dict[str, Any]:
    """Prepare in a process of its own; return the figures, none of a killed one."""
    log = outputs.with_suffix(".log")
    with (
        open(log, "ab") as errors,
        subprocess.Popen(
            command(options, text, outputs, workers),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        if kill:
            wanted = KILL_AT * text.stat().st_size / (options.piece_mb * 1e6)
            while process.poll() is None and finished_pieces(outputs) < wanted:
                time.sleep(0.2)
            os.kill(process.pid, signal.SIGKILL)
        found = process.stdout.read() if process.stdout else ""
    if kill:
        return {"finished": finished_pieces(outputs)}
    if process.returncode:
        raise SystemExit(log.read_text())
    figures: dict[str, Any] = json.loads(found.splitlines()[-1])
    return figures


def digest(folder: str) -> str:
    """Return the hash of all files but those with measured times, and of their names."""
    total = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in ("report.tsv", "manifest.json") and not name.startswith("reports/"):
            total.update(name.encode() + path.read_bytes())
    return total.hexdigest()


def kill_often(preparation: list[str], outputs: Path, kills: int, seconds: float) -> None:
    """Kill workers and drivers of a preparation that takes some seconds, at most so often."""
    dice = random.Random(1)
    left = kills
    while left and not list((outputs / "prepared").glob("scale-*")):
        with subprocess.Popen(
            preparation,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as driver:
            workers: list[psutil.Process] = []
            while driver.poll() is None and left:
                time.sleep(dice.uniform(0.2, 1.0) * seconds / 8)
                processes = psutil.Process(driver.pid).children(recursive=True)
                workers = [p for p in processes if "spawn_main" in " ".join(p.cmdline())]
                victim = driver if not workers or dice.random() < 0.3 else dice.choice(workers)
                with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                    victim.send_signal(signal.SIGKILL)
                    left -= 1
                if victim is driver:
                    break
            driver.kill()
        psutil.wait_procs(workers, timeout=30)  # they end without their driver
    print(f"{kills - left} times kill -9 of workers and drivers")


def finished_pieces(outputs: Path) -> int:
    """Return how many pieces an unfinished preparation has made."""
    return len(list((outputs / "prepared").glob(".*.partial/pieces/*.json")))


def write_text(sources: list[Path], target: Path, gigabytes: float) -> int:
    """Write copies of the sources; return the bytes."""
    copy = b"".join(source.read_bytes().rstrip(b"\n") + b"\n" for source in sources)
    written = 0
    with open(target, "wb") as file:
        while written < max(1, gigabytes * 1e9):
            written += file.write(copy)
    return written


def show(name: str, size: int, found: dict[str, Any]) -> None:
    """Print the figures of a run."""
    gigabytes = size / 1e9
    seconds, cpu, _ = found["stages"]["all"]
    print(
        f"{name}: {gigabytes:.2f} GB, {found['tokens']:,} tokens, {seconds:.1f} s, {cpu:.1f} s of "
        f"processor in this process, {found['children_cpu']:.1f} in its children, "
        f"{found['peak_gb']:.2f} GB"
    )
    for stage, (wall, used, peak) in found["stages"].items():
        print(
            f"  {stage:12} {wall:8.1f} s {wall / gigabytes:7.1f} s/GB {used / gigabytes:7.1f} s "
            f"of processor/GB, peak {peak:.2f} GB"
        )
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--gb", type=float, nargs="+", default=[0.2, 1])
    parser.add_argument("--tokenizer", default="kkma")
    parser.add_argument("--workers", type=int, nargs="+", default=[0])
    parser.add_argument("--document", default="line", choices=["line", "blank_line", "file"])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--piece-mb", type=float, default=ClusterConfig.piece_mb)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        text, outputs, workers = options.child
        child(options, Path(text), Path(outputs), int(workers))
        return
    is_same = True
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        text, outputs = folder / "text.txt", folder / "outputs"
        if options.tokenizer == "kkma" and 0 in options.workers:
            size = write_text(options.files, text, 0)
            show("the files themselves", size, run(options, text, outputs, 0))
        for gigabytes in options.gb:
            size, digests = write_text(options.files, text, gigabytes), set[str]()
            for workers in options.workers:
                name = f"{workers} workers"
                if options.kill and gigabytes == max(options.gb):
                    finished = run(options, text, outputs, workers, kill=True)["finished"]
                    name += f", killed when {finished} pieces were finished, and continued"
                found = run(options, text, outputs, workers)
                show(name, size, found)
                digests.add(digest(found["folder"]))
                shutil.rmtree(outputs / "prepared")
                if options.kills:
                    preparation = command(options, text, outputs, workers)
                    kill_often(preparation, outputs, options.kills, found["stages"]["all"][0])
                    digests.add(digest(run(options, text, outputs, workers)["folder"]))
                    shutil.rmtree(outputs / "prepared")
            print("identical bytes" if len(digests) == 1 else "OTHER BYTES")
            is_same = is_same and len(digests) == 1
    sys.exit(not is_same)


if __name__ == "__main__":
    main()
