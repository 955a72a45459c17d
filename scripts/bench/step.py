"""Compare the speed of a training step with PyTorch's example word_language_model.

    python scripts/bench/step.py [--peer FOLDER] [--threads 1] [--vocab-size 8600]

FOLDER must hold the example's model.py (github.com/pytorch/examples, word_language_model), which is
not part of korlm. Both train an LSTM of 2 x 200 with tied weights on the same ids, in batches of
20 x 35. Each row has its own process, with the environment that its authors use: korlm keeps freed
memory and makes waiting threads sleep, which would speed up the example as well. The rows take
turns, so that a slow phase of the machine affects all of them; ratios of CPU time leave out the
time that other programs took.

Without --peer, ratios are relative to korlm in fp32. Rows in bf16 are skipped on a CPU without
native bf16: emulation is slow, and oneDNN has no bf16 LSTM for it.

With native bf16, the last line prints the lower bound of a step: the time of its matrix products at
the rate of a large square bf16 product, measured in the same run.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from bare import bare_trainer, endless, peer_model, zipf_batches
from bench_utils import Seconds, argument_parser, in_turns, median_seconds, time_calls

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
from korlm.dataset.batches import StreamBatches
from korlm.models.registry import build_model
from korlm.runs.device import uses_bf16
from korlm.training.optimizers import build_optimizer
from korlm.utils import threads
from korlm.utils.machine import keep_freed_memory

BATCH, LENGTH, UNITS, LAYERS, DROPOUT = 20, 35, 200, 2, 0.2
WARMUP_ROUNDS = 2
PEER = "word_language_model"
KORLM_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": SPIN_COUNT}
OPTIMIZERS = {
    "sgd": SGDConfig(name="sgd", lr=0.1),  # as the example
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


def peer_step(folder: Path, vocab_size: int, batches: StreamBatches) -> Callable[[], float]:
    """Return a function that takes a step like the example's main.py, and returns the loss."""
    model = peer_model(folder, vocab_size, UNITS, LAYERS, DROPOUT)
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
    """Return a function that takes a step of korlm's training loop, and returns the loss.

    The network is that of the example, without the additions of korlm's default settings.
    """
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
        return float(trainer.train_step(batch)) / batch.num_targets

    return step


def run_worker(name: str, options: argparse.Namespace, pipe: Connection) -> None:
    """Serve one row in this process: answer each True with the seconds of a step; end at False."""
    threads.configure_threads(options.threads, BATCH * 4 * UNITS * UNITS)
    if name == PEER:
        torch.set_num_threads(options.threads)
    batches = zipf_batches(400_000, options.vocab_size, BATCH, LENGTH)
    if name == PEER:
        step = peer_step(options.peer, options.vocab_size, batches)
    else:
        softmax = Softmax.adaptive if "adaptive" in name else Softmax.full
        optimizer = next(config for word, config in OPTIMIZERS.items() if word in name)
        step = korlm_step(options.vocab_size, batches, "bf16" in name, softmax, optimizer)
    while pipe.recv():
        pipe.send(time_calls(step, options.steps))


def request_steps(pipe: Connection) -> Seconds:
    """Let a worker take its steps of a round; return the seconds of a step."""
    pipe.send(True)
    seconds: Seconds = pipe.recv()
    return seconds


def lower_bound(vocab_size: int) -> float:
    """Return the seconds of a step's products (exact softmax) at the rate of a large product."""
    size = 2048
    matrix = torch.randn(size, size).to(torch.bfloat16)
    seconds = min(time_calls(lambda: matrix @ matrix).wall for _ in range(12))
    weights = UNITS * vocab_size + LAYERS * 4 * UNITS * 2 * UNITS
    forward = 2 * BATCH * LENGTH * weights
    return 3 * forward * seconds / (2 * size**3)  # the backward pass has two products more


def available_rows(peer: Path | None) -> list[str]:
    """Return the rows that this machine can measure; print the others with the reason."""
    skipped = {}
    if peer is None:
        skipped[PEER] = "needs --peer FOLDER"
    elif not (peer / "model.py").is_file():
        skipped[PEER] = f"no model.py in {peer}"
    if not uses_bf16(TrainerConfig(), torch.device("cpu")):
        skipped |= dict.fromkeys(
            (name for name in NAMES if "bf16" in name), "this CPU has no native bf16"
        )
    for name, reason in skipped.items():
        print(f"{name:24} skipped: {reason}")
    return [name for name in NAMES if name not in skipped]


def start_workers(names: list[str], options: argparse.Namespace) -> dict[str, Connection]:
    """Start a process for each row; return the pipes to them."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    for name in names:
        os.environ.update(KORLM_ENVIRONMENT)
        if name == PEER:
            for key in KORLM_ENVIRONMENT:
                del os.environ[key]
        pipes[name], other = context.Pipe()
        context.Process(target=run_worker, args=(name, options, other), daemon=True).start()
    return pipes


def main() -> None:
    """Measure the rows and print them."""
    parser = argument_parser(__doc__)
    parser.add_argument("--peer", type=Path, help="folder with the example's model.py")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--vocab-size", type=int, default=8600, help="tokens in the vocabulary")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each row")
    parser.add_argument("--steps", type=int, default=4, help="steps of a row per round")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = available_rows(options.peer)
    base = names[0]
    bound = lower_bound(options.vocab_size) if EXACT in names else math.nan
    pipes = start_workers(names, options)
    durations = in_turns(
        {name: partial(request_steps, pipe) for name, pipe in pipes.items()},
        options.rounds,
        WARMUP_ROUNDS,
    )
    for pipe in pipes.values():
        pipe.send(False)
    print(
        f"{options.threads} thread(s), vocabulary {options.vocab_size:,}, {LAYERS} x {UNITS}, "
        f"batch {BATCH} x {LENGTH}, torch {torch.__version__}; medians of {options.rounds} rounds"
    )
    medians = {name: median_seconds(times) for name, times in durations.items()}
    for name, times in durations.items():
        ratios = [b.wall / own.wall for b, own in zip(durations[base], times, strict=True)]
        print(
            f"{name:24} {1000 * medians[name].wall:7.1f} ms per step "
            f"{BATCH * LENGTH / medians[name].wall:9,.0f} tokens/s   "
            f"{statistics.median(ratios):.2f} x {base} (from {min(ratios):.2f} "
            f"to {max(ratios):.2f}), {medians[base].cpu / medians[name].cpu:.2f} x by CPU time"
        )
    if EXACT in names:
        print(
            f"lower bound of a step with exact softmax: {1000 * bound:.1f} ms, which is "
            f"{bound / medians[EXACT].wall:.0%} of the time of {EXACT} and would be "
            f"{medians[base].wall / bound:.2f} x {base}"
        )


if __name__ == "__main__":
    main()
