"""Tokens a second of training by several processes on one machine, against one process.

    python scripts/bench/ddp.py [--processes 2] [--rounds 3]

Equal batches (20 x 35 tokens that follow Zipf's law), an LSTM of 2 x 200 with a tied vocabulary of
17,500, fp32, one thread each: the steps are the same ones, shared or not. One process and several
are measured in turns, so that whatever else the machine does strikes both; medians over all steps.
Processor time of one of the processes, messages included, tells how the work was divided even where
other programs take part of the processor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from bare import bare_trainer

from korlm.config import AdamConfig, LSTMConfig
from korlm.dataset.batches import Batches, RankBatches, StreamBatches
from korlm.models.registry import build_model
from korlm.training.optimizers import build_optimizer
from korlm.utils.dist_env import current_rank, exit_immediately
from korlm.utils.distributed import ProcessGroup

BATCH, LENGTH, UNITS, LAYERS = 20, 35, 200, 2


def measure(group: ProcessGroup, vocab_size: int, steps: int) -> list[tuple[float, float]]:
    """Seconds of each step by the clock and of the processor, after some to warm up."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    config = LSTMConfig(name="lstm", embedding_dim=UNITS, hidden_dim=UNITS, num_layers=LAYERS)
    model = build_model(config, vocab_size)
    group.broadcast_parameters(model)
    ranks = np.random.default_rng(1).zipf(1.2, 200_000) % (vocab_size - 4) + 4
    batches: Batches = StreamBatches(ranks.astype(np.uint32), BATCH, LENGTH)
    if group.world_size > 1:
        batches = RankBatches(batches, group.rank, group.world_size)
    optimizer = build_optimizer(model, AdamConfig(name="adamw", lr=0.001))
    trainer = bare_trainer(model, optimizer, batches, False, group)
    seconds = []
    for _, batch in zip(range(steps + 5), batches.epoch(0), strict=False):
        began, worked = time.perf_counter(), time.process_time()
        trainer.train_step(batch)
        trainer.stop.should_stop()
        seconds.append((time.perf_counter() - began, time.process_time() - worked))
    return seconds[5:]


def main() -> None:
    """Measures and prints; started by torchrun it is one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--vocab-size", type=int, default=17_500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="steps of each in a round")
    parser.add_argument("--one-of", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_of:
        with ProcessGroup(current_rank()) as group:
            seconds = measure(group, options.vocab_size, options.steps)
        if group.is_main_process:
            print(json.dumps(seconds))
        return
    run = [__file__, "--one-of", f"--vocab-size={options.vocab_size}", f"--steps={options.steps}"]
    torchrun = ["-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", str(options.processes)]
    found: dict[int, list[tuple[float, float]]] = {1: [], options.processes: []}
    for _ in range(options.rounds):
        for processes, words in ((1, run), (options.processes, [*torchrun, *run])):
            said = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, check=True)
            found[processes] += json.loads(said.stdout)
    medians = [[statistics.median(s) for s in zip(*found[n], strict=True)] for n in found]
    for processes, (clock, processor) in zip(found, medians, strict=True):
        print(
            f"{processes} process(es): {1000 * clock:.1f} ms a step, "
            f"{BATCH * LENGTH / clock:,.0f} tokens/s; {1000 * processor:.1f} ms of a processor each"
        )
    by_clock, by_processor = (one / several for one, several in zip(*medians, strict=True))
    print(f"ratio {by_clock:.2f} by the clock, {by_processor:.2f} of processor time")


if __name__ == "__main__":
    with exit_immediately():
        main()
