"""Print the time of a training step by operator: matrix products, recurrent kernel, softmax, rest.

    python scripts/bench/shares.py prepared=FOLDER [experiment=documents] [KEY=VALUE ...]

Takes steps of korlm's training loop on one CPU thread, with random initial weights. Steps with
PyTorch's profiler and steps without it take turns. The time of an operator is its self time
(without the operators it calls) in the profiled steps. It is printed as a share of these and, for
the sum of the first three rows, also of the steps without profiler, which are faster. The profiler
itself writes messages to stderr.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import statistics
from collections import Counter

from bare import endless, settings_from_command_line, trainer_from_settings
from bench_utils import in_turns, time_calls
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

ROUNDS, STEPS = 4, 16
PRINTED_OPERATORS = 24
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_linear")
# Operators that count as softmax if the output layer calls them.
SOFTMAX = ("exp_", "exp", "sum", "log", "gather", "amax", "sub_", "log_softmax")
OUTPUT = ("LinearCrossEntropy",)


def category(event: FunctionEvent) -> str:
    """Return the row that an operator is counted in."""
    name = event.name.removeprefix("aten::")
    if name in PRODUCTS:
        return "matrix products"
    if "_rnn_layer" in name or name in ("lstm", "gru"):
        return "recurrent kernel"
    parent: FunctionEvent | None = event
    while parent is not None:
        if parent.name in OUTPUT:
            return "softmax" if name in SOFTMAX else f"{name} of the output layer"
        parent = parent.cpu_parent
    return name


def main() -> None:
    """Measure the steps and print the table."""
    trainer = trainer_from_settings(settings_from_command_line(__doc__))
    stream = endless(trainer.task.train_batches)
    operators: Counter[str] = Counter()  # milliseconds per step

    def plain_steps() -> float:
        """Take some steps; return milliseconds per step."""
        return 1000 * time_calls(lambda: trainer.train_step(next(stream)), STEPS).wall

    def profiled_steps() -> float:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            milliseconds = plain_steps()
        for event in profiler.events() or []:
            operators[category(event)] += event.self_cpu_time_total / 1000 / STEPS / ROUNDS
        return milliseconds

    plain_steps()
    times = in_turns({"plain": plain_steps, "profiled": profiled_steps}, ROUNDS)
    plain, profiled = statistics.median(times["plain"]), statistics.mean(times["profiled"])
    print(f"{plain:.1f} ms per step; {profiled:.1f} ms with the profiler, of which:")
    core = 0.0
    for name in ("matrix products", "recurrent kernel", "softmax"):
        spent = operators.pop(name, 0.0)
        core += spent
        print(f"  {name:32} {spent:7.2f} ms  {spent / profiled:6.1%}")
    print(
        f"  {'sum of these three':32} {core:7.2f} ms  {core / profiled:6.1%}, "
        f"{core / plain:.1%} of a step without profiler"
    )
    for name, spent in operators.most_common(PRINTED_OPERATORS):
        print(f"    {name:30} {spent:7.2f} ms  {spent / profiled:6.1%}")


if __name__ == "__main__":
    main()
