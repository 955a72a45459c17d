"""Seconds to count and smooth an n-gram model, its memory, and tokens a second in evaluation.

    python scripts/bench/ngram.py [--tokens 10000000] [--order 5] [--vocab-size 50000]
    python scripts/bench/ngram.py --prepared outputs/prepared/FOLDER

Without --prepared the tokens follow Zipf's law, each drawn by itself, <eos> every 15 on average:
real text has fewer different n-grams and is quicker.
"""

from __future__ import annotations

import argparse
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
from korlm.models.ngram.model import NgramLM
from korlm.tasks.language_modeling import sum_losses
from korlm.utils.memory import peak_memory_mb


def zipf_ids(count: int, vocab_size: int, seed: int) -> npt.NDArray[np.uint32]:
    """Ids of tokens whose frequencies fall with their rank, and of sentence ends among them."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocab_size - 3)
    ids = 4 + np.searchsorted(np.cumsum(shares) / shares.sum(), random.random(count))
    ids[random.random(count) < 1 / 15] = EOS_ID
    return ids.astype(np.uint32)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--prepared", type=Path, help="folder of a prepared corpus")
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--vocab-size", type=int, default=50_000)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--smoothing", default="kneser_ney", choices=[s.value for s in Smoothing])
    options = parser.parse_args()
    torch.set_num_threads(1)
    ids: npt.NDArray[Any]
    if options.prepared:
        prepared = open_prepared(options.prepared)
        ids, valid = np.asarray(prepared.ids("train")), np.asarray(prepared.ids("valid"))
        vocab_size = len(prepared.vocab)
    else:
        vocab_size = options.vocab_size
        ids = zipf_ids(options.tokens, vocab_size, seed=1)
        valid = zipf_ids(100_000, vocab_size, seed=2)
    before = peak_memory_mb()
    config = NgramConfig(name="ngram", order=options.order, smoothing=Smoothing(options.smoothing))
    model = NgramLM(config, vocab_size)
    started, used = time.perf_counter(), time.process_time()
    model.fit(ids)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(
        f"{len(ids):,} tokens, vocabulary {vocab_size:,}, order {options.order}, "
        f"{options.smoothing}: {model.num_grams:,} n-grams in {seconds:.1f} s ({used:.1f} s of "
        f"processor), {peak_memory_mb():,.0f} MB at most, {before:,.0f} before"
    )
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
