"""Compare training steps on one thread with steps on as many threads as there are cores.

    python scripts/bench/threads.py prepared=FOLDER [experiment=documents] [KEY=VALUE ...]

Takes steps of korlm's training loop on a CPU, with random initial weights. Variants take turns: one
thread; all cores as korlm.train uses them, with large operations divided among the threads and
small ones on one; and all cores for every operation, as PyTorch does by default.
"""

from __future__ import annotations

import os

from korlm.cli.command import SPIN_COUNT

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

from functools import partial

from bare import endless, settings_from_command_line, trainer_from_settings
from bench_utils import Seconds, in_turns, median_seconds, time_calls

from korlm.models.base import LanguageModel
from korlm.utils import threads
from korlm.utils.machine import available_cores

ROUNDS, STEPS, WARMUP_STEPS = 10, 10, 2


def main() -> None:
    """Measure the variants and print a row for each."""
    settings = settings_from_command_line(__doc__)
    trainer = trainer_from_settings(settings)
    stream = endless(trainer.task.train_batches)
    assert isinstance(trainer.model, LanguageModel)
    matrices = [weight.numel() for weight, _ in trainer.model.muon_weights()]
    work, cores = settings.batches.batch_size * max(matrices, default=0), available_cores()

    def steps(num_threads: int, multiply_adds: int) -> Seconds:
        threads.configure_threads(num_threads, multiply_adds)
        time_calls(lambda: trainer.train_step(next(stream)), WARMUP_STEPS)
        return time_calls(lambda: trainer.train_step(next(stream)), STEPS)

    variants = {
        "one thread": partial(steps, 1, 0),
        f"{cores} threads": partial(steps, cores, work),
        f"{cores} threads for every operation": partial(steps, cores, 1 << 62),
    }
    medians = {n: median_seconds(t).wall for n, t in in_turns(variants, ROUNDS).items()}
    for name, seconds in medians.items():
        ratio = medians["one thread"] / seconds
        print(f"{name:32} {1000 * seconds:7.1f} ms per step, {ratio:.2f} times as fast as one")


if __name__ == "__main__":
    main()
