"""Tokens a second of a training step, against PyTorch's word_language_model example.

    python scripts/bench/step.py [--peer FOLDER] [--threads 1] [--vocab-size 8600]

FOLDER holds the example's model.py (github.com/pytorch/examples, word_language_model), fetched by
hand: it is not part of korlm. Both train an LSTM of 2 x 200 units with tied weights on the same ids
in batches of 20 x 35. Each has a process of its own, set up as its authors run it: korlm tells
the C library to keep freed memory and threads how to wait for each other, which would help the peer
as well. They take turns, so that a
machine that slows down slows all; ratios of processor time leave out what other programs took.

Without --peer the ratios are those to korlm in fp32. Rows in bf16 are skipped where the processor
does not multiply bf16 natively: emulated it is slow, and oneDNN has no LSTM for it.

The floor of a step is what its matrix products would take at the highest rate that this machine
multiplies bf16 with, measured in the same run on large square matrices.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from bare import bare_trainer

from korlm.cli.command import SPIN_COUNT
from korlm.config import (
    AdamConfig,
    LSTMConfig,
    MuonConfig,
    OptimizerConfig,
    SGDConfig,
    Softmax,
    TrainerConfig,
)
from korlm.dataset.batches import Batch, StreamBatches
from korlm.models.registry import build_model
from korlm.runs.device import uses_bf16
from korlm.training.optimizers import build_optimizer
from korlm.utils import threads
from korlm.utils.memory import keep_freed_memory

BATCH, LENGTH, UNITS, LAYERS, DROPOUT = 20, 35, 200, 2, 0.2


def endless(batches: StreamBatches) -> Iterator[Batch]:
    """Batches without end."""
    for epoch in itertools.count():
        yield from batches.epoch(epoch)


def peer_step(folder: Path, vocab_size: int, batches: StreamBatches) -> Callable[[], float]:
    """A step as the example's main.py does it."""
    spec = importlib.util.spec_from_file_location("peer_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.RNNModel("LSTM", vocab_size, UNITS, UNITS, LAYERS, DROPOUT, True)
    criterion = torch.nn.NLLLoss()
    model.train()
    stream = endless(batches)
    hidden = model.init_hidden(BATCH)

    def step() -> float:
        nonlocal hidden
        batch = next(stream)
        inputs, targets = batch.inputs.t().contiguous(), batch.targets.t().reshape(-1)
        model.zero_grad()
        hidden = tuple(part.detach() for part in hidden)
        output, hidden = model(inputs, hidden)
        loss = criterion(output, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for parameter in model.parameters():
            parameter.data.add_(parameter.grad, alpha=-0.1)
        return float(loss.item())

    return step


def korlm_step(
    vocab_size: int,
    batches: StreamBatches,
    bf16: bool,
    softmax: Softmax,
    optimizer: OptimizerConfig,
) -> Callable[[], float]:
    """A step of korlm's own loop; the peer's network, without what korlm's default adds to it."""
    keep_freed_memory()
    torch.manual_seed(1)
    config = LSTMConfig(
        name="lstm",
        embedding_dim=UNITS,
        hidden_dim=UNITS,
        num_layers=LAYERS,
        input_dropout=DROPOUT,
        hidden_dropout=DROPOUT,
        output_dropout=DROPOUT,
        variational_dropout=True,  # as korlm's default
        softmax=softmax,
    )
    model = build_model(config, vocab_size)
    trainer = bare_trainer(model, build_optimizer(model, optimizer, bf16), batches, bf16)
    stream = endless(batches)

    def step() -> float:
        batch = next(stream)
        return float(trainer.train_step(batch)) / batch.num_tokens

    return step


def worker(name: str, options: argparse.Namespace, pipe: Connection) -> None:
    """A process of its own: answers each message with a step's seconds, by clock and processor."""
    threads.configure_threads(options.threads, BATCH * 4 * UNITS * UNITS)
    if name == PEER:
        torch.set_num_threads(options.threads)
    # Zipf's law, as words have it: which rows of the embedding are touched matters little.
    ranks = np.random.default_rng(1).zipf(1.2, 400_000) % (options.vocab_size - 4) + 4
    batches = StreamBatches(ranks.astype(np.uint32), BATCH, LENGTH)
    if name == PEER:
        step = peer_step(options.peer, options.vocab_size, batches)
    else:
        softmax = Softmax.adaptive if "adaptive" in name else Softmax.full
        chosen = next(config for word, config in OPTIMIZERS.items() if word in name)
        step = korlm_step(options.vocab_size, batches, "bf16" in name, softmax, chosen)
    while pipe.recv():
        started, worked = time.perf_counter(), time.process_time()
        for _ in range(options.steps):
            step()
        spent = time.perf_counter() - started, time.process_time() - worked
        pipe.send([seconds / options.steps for seconds in spent])


def floor_seconds(vocab_size: int) -> float:
    """What the products of a step with exact softmax take at the machine's best rate in bf16."""
    size = 2048
    matrix = torch.randn(size, size).to(torch.bfloat16)
    taken = []
    for _ in range(12):
        started = time.perf_counter()
        matrix @ matrix
        taken.append(time.perf_counter() - started)
    weights = UNITS * vocab_size + LAYERS * 4 * UNITS * 2 * UNITS
    forward = 2 * BATCH * LENGTH * weights
    return 3 * forward * min(taken) / (2 * size**3)  # the gradients are two products more


PEER = "word_language_model"
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": SPIN_COUNT}
OPTIMIZERS = {
    "sgd": SGDConfig(name="sgd", lr=0.1),  # the peer's own
    "muon": MuonConfig(name="muon", lr=0.001),
    "": AdamConfig(name="adamw", lr=0.001),
}
EXACT = "korlm bf16"
NAMES = (
    PEER,
    "korlm fp32",
    EXACT,
    "korlm bf16 sgd",
    "korlm bf16 adaptive",
    "korlm bf16 muon",
    "korlm bf16 adaptive muon",
)


def names_here(peer: Path | None) -> list[str]:
    """Return the rows that this machine can measure; print those that it skips."""
    skipped = {}
    if peer is None:
        skipped[PEER] = "no --peer FOLDER was given"
    elif not (peer / "model.py").is_file():
        skipped[PEER] = f"{peer} has no model.py"
    if not uses_bf16(TrainerConfig(), torch.device("cpu")):
        skipped |= dict.fromkeys(
            (name for name in NAMES if "bf16" in name),
            "this processor does not multiply bf16 natively",
        )
    for name, reason in skipped.items():
        print(f"{name:24} skipped: {reason}")
    return [name for name in NAMES if name not in skipped]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, help="folder with the peer's model.py")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocab-size", type=int, default=8600)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="steps of each in a round")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = names_here(options.peer)
    base = names[0]
    floor = floor_seconds(options.vocab_size) if EXACT in names else math.nan
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in names:
        for key, value in WAITING.items():
            os.environ[key] = value
            if name == PEER:
                del os.environ[key]
        pipes[name], other = context.Pipe()
        context.Process(target=worker, args=(name, options, other), daemon=True).start()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    worked: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(options.rounds + 2):
        for name, pipe in pipes.items():
            pipe.send(True)
            by_clock, by_processor = pipe.recv()
            if round_number >= 2:  # the first two warm up
                seconds[name].append(by_clock)
                worked[name].append(by_processor)
    for pipe in pipes.values():
        pipe.send(False)
    print(
        f"{options.threads} thread(s), vocabulary {options.vocab_size:,}, {LAYERS} x {UNITS}, "
        f"batch {BATCH} x {LENGTH}, torch {torch.__version__}; medians of {options.rounds} rounds"
    )
    for name, times in seconds.items():
        ratios = [peer / own for peer, own in zip(seconds[base], times, strict=True)]
        processor = statistics.median(worked[base]) / statistics.median(worked[name])
        print(
            f"{name:24} {1000 * statistics.median(times):7.1f} ms a step "
            f"{BATCH * LENGTH / statistics.median(times):9,.0f} tokens/s   "
            f"{statistics.median(ratios):.2f} x {base} (from {min(ratios):.2f} "
            f"to {max(ratios):.2f}), {processor:.2f} x by processor time"
        )
    if EXACT not in names:
        return
    taken = statistics.median(seconds[EXACT])
    print(
        f"floor of a step with exact softmax {1000 * floor:.1f} ms, which is "
        f"{floor / taken:.0%} of what {EXACT} takes and would be "
        f"{statistics.median(seconds[base]) / floor:.2f} x {base}"
    )


if __name__ == "__main__":
    main()
