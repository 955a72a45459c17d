"""Plot the perplexity of valid over training time, beside other implementations.

    python scripts/bench/quality_over_time.py RUN [RUN ...] --output plot.png [--minutes 30]

RUN are run directories of one prepared corpus, whose validations are read from TensorBoard's files.
The networks of PyTorch's example word_language_model (2 x 200 units) and of AWD-LSTM (2 x 400
units, without averaging) then train on the same tokens for as many minutes, as their programs do:
gradient descent with clipped gradients, and a learning rate that is divided by four when the
perplexity of valid does not improve in an epoch. They have one thread and one process each, at the
same time. Their minutes are those of the processor, and those of a run by the clock, so a busy
machine favors them; give runs of this machine with ``trainer.threads=1``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from bench_utils import argument_parser, run_child
from gpu import AwdLSTM, PlainLSTM, Sizes
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import korlm
from korlm.dataset.batches import Batches, StreamBatches
from korlm.dataset.prepared import open_prepared
from korlm.utils.plotting import COLORS, save, set_log_scale, styled

CLIP = 0.25  # largest norm of the gradient
EVAL_BATCH, VALIDATIONS_OF_EPOCH = 10, 4
TIMES = (5, 15, 30, 60)  # minutes of the table

Points = list[tuple[float, float]]  # minutes, perplexity of valid


class Recipe(NamedTuple):
    """Sizes and learning rate of another implementation."""

    units: int
    length: int
    lr: float
    batch: int = 20

    def build(self, name: str, vocab: int) -> nn.Module:
        """Return the untrained network."""
        sizes = Sizes(self.batch, self.length, self.units, vocab)
        return AwdLSTM(sizes) if name == "AWD-LSTM" else PlainLSTM(sizes, log_softmax=True)


RECIPES = {"word_language_model": Recipe(200, 35, 20.0), "AWD-LSTM": Recipe(400, 70, 30.0)}


def train(name: str, folder: Path, minutes: float) -> Points:
    """Train one of ``RECIPES`` on a prepared corpus; return its validations."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    recipe, prepared = RECIPES[name], open_prepared(folder)
    model, lr = recipe.build(name, len(prepared.vocab)), recipe.lr
    batches = StreamBatches(prepared.ids("train"), recipe.batch, recipe.length)
    valid = StreamBatches(prepared.ids("valid"), EVAL_BATCH, recipe.length)
    between = max(1, len(batches) // VALIDATIONS_OF_EPOCH)
    points: Points = []
    start, best, step, epoch = time.process_time(), math.inf, 0, 0
    while True:
        state, last = None, best
        for batch in batches.epoch(epoch):
            model.train()
            model.zero_grad()
            loss, state = model(batch.inputs.t(), batch.targets.t(), state)
            state = tuple(part.detach() for part in state)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            with torch.no_grad():
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(parameter.grad, alpha=lr)
            step += 1
            if step % between == 0:
                perplexity = evaluate(model, valid)
                elapsed = (time.process_time() - start) / 60
                points.append((elapsed, perplexity))
                best = min(best, perplexity)
                if elapsed > minutes:
                    return points
        epoch += 1
        if best >= last:
            lr /= 4


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> float:
    """Return the perplexity of all tokens of a split."""
    model.eval()
    state: tuple[Tensor, ...] | None = None
    total = 0.0
    for batch in batches.epoch(0):
        loss, state = model(batch.inputs.t(), batch.targets.t(), state)
        total += float(loss) * batch.num_targets
    return math.exp(total / batches.num_targets)


def validations(run: Path) -> Points:
    """Return the validations of a run of korlm, in minutes from its first logged step on."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    start = events.Scalars("train/lr")[0].wall_time
    return [((e.wall_time - start) / 60, e.value) for e in events.Scalars("perplexity/valid")]


def best_after(points: Points, minutes: float) -> str:
    """Return the lowest perplexity until a time, or a dash if training ended before."""
    until = [perplexity for elapsed, perplexity in points if elapsed <= minutes]
    return f"{min(until):.1f}" if until and points[-1][0] >= minutes * 0.9 else "-"


def plot(curves: dict[str, Points], output: Path) -> None:
    """Write the curves as a PNG file."""
    with styled():
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel="training time (min)", ylabel="perplexity of valid")
        for color, (name, points) in zip(COLORS, curves.items(), strict=False):
            axes.plot(*zip(*points, strict=True), color=color, label=name, marker=".")
        set_log_scale(axes)
        axes.legend(frameon=False)
        save(figure, output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the other implementations, print the table and write the plot."""
    parser = argument_parser(__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run of korlm")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the others")
    parser.add_argument("--output", type=Path, default=Path("quality.png"), help="PNG file")
    parser.add_argument("--child", choices=RECIPES, help="train this one and print its validations")
    options = parser.parse_args(arguments)
    runs = {path: korlm.load(path) for path in options.runs}
    (folder,) = {run.prepared for run in runs.values()}
    if options.child:
        print(json.dumps(train(options.child, folder, options.minutes)))
        return

    def train_child(name: str) -> Points:
        given = [__file__, *options.runs, "--minutes", options.minutes, "--child", name]
        points: Points = run_child(*given)
        return points

    with ThreadPoolExecutor(len(RECIPES)) as threads:
        others = list(threads.map(train_child, RECIPES))
    curves = {f"korlm, {path.name}": validations(path) for path in runs}
    curves |= zip(RECIPES, others, strict=True)
    print("| minutes | " + " | ".join(map(str, TIMES)) + " |")
    print("| --- " * (1 + len(TIMES)) + "|")
    for name, points in curves.items():
        print(f"| {name} | " + " | ".join(best_after(points, t) for t in TIMES) + " |")
    plot(curves, options.output)


if __name__ == "__main__":
    main()
