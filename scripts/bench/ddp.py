"""Compare the speed of training on several processes of one machine with one process.

    python scripts/bench/ddp.py [--processes 2] [--rounds 3]

All train an LSTM of 2 x 200 (tied weights, fp32, one thread per process) on the same batches of
20 x 35 tokens, whose frequencies follow Zipf's law: a step computes the same gradient, on one
process or divided among several. One process and several take turns; figures are medians over all
steps. The CPU time of a process, communication included, shows how the work is divided even while
other programs use the cores.
"""

from __future__ import annotations

import argparse
import itertools
import json

import torch
from bare import bare_trainer, zipf_batches
from bench_utils import (
    Seconds,
    argument_parser,
    in_turns,
    median_seconds,
    run_child,
    speedup,
    time_calls,
)

from korlm.config import AdamConfig, LSTMConfig
from korlm.dataset.batches import Batches, RankBatches
from korlm.models.registry import build_model
from korlm.training.optimizers import build_optimizer
from korlm.utils.dist_env import current_rank, exit_immediately
from korlm.utils.distributed import ProcessGroup

BATCH, LENGTH, UNITS, LAYERS = 20, 35, 200, 2
WARMUP_STEPS = 5


def measure_steps(group: ProcessGroup, vocab_size: int, steps: int) -> list[Seconds]:
    """Return the duration of each step, without the warmup."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = LSTMConfig(name="lstm", embedding_dim=UNITS, hidden_dim=UNITS, num_layers=LAYERS)
    model = build_model(config, vocab_size)
    group.broadcast_parameters(model)
    batches: Batches = zipf_batches(200_000, vocab_size, BATCH, LENGTH)
    if group.world_size > 1:
        batches = RankBatches(batches, group.rank, group.world_size)
    optimizer = build_optimizer(model, AdamConfig(name="adamw", lr=0.001))
    trainer = bare_trainer(model, optimizer, batches, False, group)
    stream = itertools.islice(batches.epoch(0), WARMUP_STEPS + steps)

    def step() -> None:
        trainer.train_step(next(stream))
        trainer.stop.check()

    return [time_calls(step) for _ in range(WARMUP_STEPS + steps)][WARMUP_STEPS:]


def main() -> None:
    """Print a row per number of processes; with --worker, be one of the measured processes."""
    parser = argument_parser(__doc__)
    parser.add_argument("--processes", type=int, default=2, help="number of processes")
    parser.add_argument("--vocab-size", type=int, default=17_500, help="tokens in the vocabulary")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each number of processes")
    parser.add_argument("--steps", type=int, default=40, help="measured steps per round")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        with ProcessGroup(current_rank()) as group:
            durations = measure_steps(group, options.vocab_size, options.steps)
        if group.is_main_process:
            print(json.dumps(durations))
        return
    worker = [
        __file__,
        "--worker",
        f"--vocab-size={options.vocab_size}",
        f"--steps={options.steps}",
    ]
    torchrun = ["-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(options.processes)]
    results = in_turns(
        {1: lambda: run_child(*worker), options.processes: lambda: run_child(*torchrun, *worker)},
        options.rounds,
    )
    medians = {
        processes: median_seconds(list(itertools.chain.from_iterable(rounds)))
        for processes, rounds in results.items()
    }
    for processes, (wall, cpu) in medians.items():
        print(
            f"{processes} process(es): {1000 * wall:.1f} ms per step, "
            f"{BATCH * LENGTH / wall:,.0f} tokens/s, {1000 * cpu:.1f} ms of CPU time per process"
        )
    print(f"{options.processes} processes: {speedup(medians[1], medians[options.processes])}")


if __name__ == "__main__":
    with exit_immediately():
        main()
