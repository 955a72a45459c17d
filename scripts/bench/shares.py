"""What a training step spends its time on: products, recurrent kernel, softmax, the rest by name.

    python scripts/bench/shares.py prepared=FOLDER [experiment=documents] [any override of train]

One thread, random weights, the steps of korlm's own loop on the given text. Profiled steps and
plain ones take turns; times by operator are those of the profiled steps, and their share is told of
these and of the plain steps, which the profiler does not slow down. An operator's time is its own,
without that of the operators it calls. (PyTorch's profiler writes lines on stderr.)
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from bare import bare_trainer
from hydra import compose, initialize_config_dir
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from korlm import config
from korlm.cli.arguments import quote_hangul
from korlm.cli.output_dirs import register_resolvers
from korlm.config.keys import conf_dir
from korlm.config.serialization import to_settings
from korlm.dataset.batches import Batch, Batches, build_batches
from korlm.dataset.prepared import open_prepared
from korlm.models.registry import build_model
from korlm.runs.device import uses_bf16
from korlm.training.optimizers import build_optimizer
from korlm.training.trainer import Trainer
from korlm.utils.memory import keep_freed_memory

ROUNDS, STEPS = 4, 16
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_linear")
# Of these only what the output layer calls.
SOFTMAX = ("exp_", "exp", "sum", "log", "gather", "amax", "sub_", "log_softmax")
OUTPUT = ("LinearCrossEntropy",)


def class_of(event: FunctionEvent) -> str:
    """What an operator is counted as."""
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


def settings_of(usage: str | None, *defaults: str) -> config.TrainSettings:
    """As ``python -m korlm.train`` would have them from this command line, after some defaults."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=usage, formatter_class=raw)
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE")
    overrides = [*defaults, *parser.parse_args().overrides]
    config.store_schemas()
    register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = to_settings(compose("train", [quote_hangul(o) for o in overrides]))
    assert isinstance(settings, config.TrainSettings)
    if settings.prepared is None:
        parser.error("prepared=FOLDER must be given: the text to take steps on")
    return settings


def endless(batches: Batches) -> Iterator[Batch]:
    """Batches without end."""
    for epoch in itertools.count():
        yield from batches.epoch(epoch)


def build(settings: config.TrainSettings) -> Trainer:
    """A trainer at its first step."""
    assert settings.prepared is not None
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    prepared = open_prepared(Path(settings.prepared))
    if settings.model.name == "ngram":
        raise SystemExit("model=ngram: is counted, there are no steps")
    model = build_model(settings.model, len(prepared.vocab), prepared.vocab.tokens)
    bf16 = uses_bf16(settings.trainer, torch.device("cpu"))
    ids = prepared.ids("train")
    batches = build_batches(ids, settings.batches, True, settings.seed, "train")
    return bare_trainer(model, build_optimizer(model, settings.optimizer, bf16), batches, bf16)


def main() -> None:
    """Measures and prints."""
    trainer = build(settings_of(__doc__))
    stream = endless(trainer.task.train_batches)

    def steps() -> float:
        """Takes some and gives milliseconds a step."""
        started = time.perf_counter()
        for _ in range(STEPS):
            trainer.train_step(next(stream))
        return 1000 * (time.perf_counter() - started) / STEPS

    steps()
    plain: list[float] = []
    profiled: list[float] = []
    found: Counter[str] = Counter()
    for _ in range(ROUNDS):
        plain.append(steps())
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            profiled.append(steps())
        for event in profiler.events() or []:
            found[class_of(event)] += event.self_cpu_time_total / 1000 / STEPS / ROUNDS
    step = statistics.median(plain)
    print(f"a step {step:.1f} ms; profiled {statistics.mean(profiled):.1f} ms, of which:")
    core = 0.0
    for name in ("matrix products", "recurrent kernel", "softmax"):
        spent = found.pop(name, 0.0)
        core += spent
        print(f"  {name:32} {spent:7.2f} ms  {spent / statistics.mean(profiled):6.1%}")
    print(
        f"  {'these three':32} {core:7.2f} ms  {core / statistics.mean(profiled):6.1%}, "
        f"{core / step:.1%} of a plain step"
    )
    for name, spent in found.most_common(24):
        print(f"    {name:30} {spent:7.2f} ms  {spent / statistics.mean(profiled):6.1%}")


if __name__ == "__main__":
    main()
