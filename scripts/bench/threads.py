"""A training step on one thread and on several, in turns.

    python scripts/bench/threads.py prepared=FOLDER [experiment=documents] [any override of train]

Random weights, the steps of korlm's own loop on the given text, with as many threads as there are
cores. The third column shares out every operation among all of them, as PyTorch does.
"""

from __future__ import annotations

import os

from korlm.cli.command import SPIN_COUNT

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

import statistics
import time

from shares import build, endless, settings_of

from korlm.models.base import LanguageModel
from korlm.utils import threads
from korlm.utils.cpu import available_cores

ROUNDS, STEPS = 10, 10


def main() -> None:
    """Measures and prints."""
    settings = settings_of(__doc__)
    trainer = build(settings)
    stream = endless(trainer.task.train_batches)
    assert isinstance(trainer.model, LanguageModel)
    matrices = [weight.numel() for weight, _ in trainer.model.muon_weights()]
    work, cores = settings.batches.batch_size * max(matrices, default=0), available_cores()

    def steps(count: int) -> float:
        """Takes some and gives milliseconds a step."""
        started = time.perf_counter()
        for _ in range(count):
            trainer.train_step(next(stream))
        return 1000 * (time.perf_counter() - started) / count

    ways = {"one thread": (1, 0), f"{cores} threads": (cores, work), "always all": (cores, 1 << 62)}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            threads.configure_threads(*way)
            steps(2)
            found[name].append(steps(STEPS))
    alone = statistics.median(found["one thread"])
    for name, times in found.items():
        step = statistics.median(times)
        print(f"{name:12} {step:7.1f} ms a step, {alone / step:.2f} times as fast as one thread")


if __name__ == "__main__":
    main()
