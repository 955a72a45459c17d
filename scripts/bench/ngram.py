"""Seconds to count and smooth an n-gram model, its memory, and tokens a second in evaluation.

    python scripts/bench/ngram.py [--tokens 10000000] [--order 5] [--vocab-size 50000]
    python scripts/bench/ngram.py --prepared outputs/prepared/FOLDER
    python scripts/bench/ngram.py --lmplz BUILD/bin/lmplz

Without --prepared the tokens follow Zipf's law, each drawn by itself, <eos> every 15 on average:
real text has fewer different n-grams and is quicker. ``--lmplz`` is the program of KenLM, which
estimates a model of the same text before and after; the numbers of n-grams must be the
same. lmplz reads text and writes an ARPA file, korlm keeps the model in
memory; ``--arpa`` also times its own ARPA file.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from korlm.config import BatchesConfig, Mode, NgramConfig, Smoothing
from korlm.dataset.batches import build_batches
from korlm.dataset.prepared import open_prepared
from korlm.dataset.vocab import EOS_ID
from korlm.models.ngram.arpa import write_arpa
from korlm.models.ngram.model import NgramLM
from korlm.tasks.language_modeling import sum_losses
from korlm.utils.machine import peak_memory_mb


def zipf_ids(count: int, vocab_size: int, seed: int) -> npt.NDArray[np.uint32]:
    """Ids of tokens whose frequencies fall with their rank, and of sentence ends among them."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocab_size - 3)
    ids = 4 + np.searchsorted(np.cumsum(shares) / shares.sum(), random.random(count))
    ids[random.random(count) < 1 / 15] = EOS_ID
    return ids.astype(np.uint32)


def write_text(path: Path, ids: npt.NDArray[Any]) -> None:
    """Write the sentences as text: a number for each token."""
    words = list(map(str, range(int(ids.max()) + 1)))
    words[EOS_ID] = "\n"
    text = " ".join(map(words.__getitem__, ids.tolist())).replace(" \n ", "\n")
    path.write_text(text.rstrip() + "\n", encoding="ascii")


def run_lmplz(program: Path, text: Path, arpa: Path, options: argparse.Namespace) -> list[int]:
    """Time lmplz; return the numbers of n-grams of its file."""
    command = [program, "-o", options.order, "-S", "50%", "--discount_fallback", "-T", text.parent]
    command += ["--text", text, "--arpa", arpa, "--prune", *(options.prune or [0])]
    started = time.perf_counter()
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"lmplz ended with {process.returncode}")
    with open(arpa, encoding="utf-8") as file:
        head = "".join(line for line, _ in zip(file, range(options.order + 1), strict=False))
    print(
        f"lmplz: {time.perf_counter() - started:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of "
        f"processor), {used.ru_maxrss / 1024:,.0f} MB at most"
    )
    return [int(size) for size in re.findall(r"=(\d+)", head)]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--prepared", type=Path, help="folder of a prepared corpus")
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--vocab-size", type=int, default=50_000)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--smoothing", default="kneser_ney", choices=[s.value for s in Smoothing])
    parser.add_argument("--lmplz", type=Path, help="KenLM's program, to compare with")
    parser.add_argument("--arpa", action="store_true", help="write an ARPA file, as lmplz does")
    parser.add_argument("--prune", type=int, nargs="+", default=[], help="of both programs")
    parser.add_argument("--memory-gb", type=float, help="for counting, of korlm")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ids: npt.NDArray[Any]
    if options.prepared:
        prepared = open_prepared(options.prepared)
        ids, valid = np.asarray(prepared.ids("train")), np.asarray(prepared.ids("valid"))
        vocab_size = len(prepared.vocab)
        ids = ids[: options.tokens]
    else:
        vocab_size = options.vocab_size
        ids = zipf_ids(options.tokens, vocab_size, seed=1)
        valid = zipf_ids(100_000, vocab_size, seed=2)
    config = NgramConfig(
        name="ngram",
        order=options.order,
        smoothing=Smoothing(options.smoothing),
        prune=options.prune,
        memory_gb=options.memory_gb,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.lmplz:
            write_text(folder / "text", ids)
            run_lmplz(options.lmplz, folder / "text", folder / "lmplz.arpa", options)
        model = fit(ids, config, vocab_size)
        if options.lmplz:
            if options.arpa:
                started, used = time.perf_counter(), time.process_time()
                write_arpa(folder / "korlm.arpa", model.tables(), list(map(str, range(vocab_size))))
                seconds, used = time.perf_counter() - started, time.process_time() - used
                print(f"ARPA file: {seconds:.1f} s more ({used:.1f} s of processor)")
            sizes = run_lmplz(options.lmplz, folder / "text", folder / "lmplz.arpa", options)
            own = [len(table.keys) for table in model.tables()]
            print(f"n-grams of orders 2 to {options.order}: {own[1:]}, lmplz {sizes[1:]}")
            is_same = own[1:] == sizes[1:]
    evaluate(model, valid)
    if options.lmplz:
        sys.exit(not is_same)


def fit(ids: npt.NDArray[Any], config: NgramConfig, vocab_size: int) -> NgramLM:
    """Count and smooth a model, and print what it took."""
    before = peak_memory_mb()
    model = NgramLM(config, vocab_size)
    started, used = time.perf_counter(), time.process_time()
    model.fit(ids)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(
        f"korlm: {len(ids):,} tokens, vocabulary {vocab_size:,}, order {config.order}, "
        f"{config.smoothing.value}: {model.num_grams:,} n-grams in {seconds:.1f} s ({used:.1f} s "
        f"of processor), {peak_memory_mb():,.0f} MB at most, {before:,.0f} before"
    )
    return model


def evaluate(model: NgramLM, valid: npt.NDArray[Any]) -> None:
    """Print tokens a second in evaluation."""
    batches = build_batches(valid, BatchesConfig(mode=Mode.stream), False, 1, "valid")
    used = time.process_time()
    tally = sum_losses(model, batches, torch.device("cpu"))
    used = time.process_time() - used
    print(
        f"evaluation in batches of 10 x 35: {tally.num_tokens / tally.seconds:,.0f} tokens/s "
        f"({tally.num_tokens / used:,.0f} a second of processor), "
        f"perplexity {tally.perplexity:,.2f}"
    )


if __name__ == "__main__":
    main()
