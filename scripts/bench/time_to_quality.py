"""Compare the time to a given perplexity with PyTorch's example word_language_model.

    python scripts/bench/time_to_quality.py prepared=FOLDER --peer FOLDER [KEY=VALUE ...]

The peer's FOLDER must hold the example's model.py (github.com/pytorch/examples), which is not part
of korlm. It trains an LSTM of 2 x 200 with tied weights as the example's main.py does: gradient
descent with the gradient's norm clipped to 0.25, and a learning rate that is divided by four when
the perplexity of valid does not improve. Of the given learning rates the one with the best
perplexity counts. Then korlm trains with the given settings until valid is as good as that.

Each has its own process, with the same vocabulary and the same tokens of valid, all of which are
predicted. Seconds are those of the processor, on one thread, from the first step on, with all
validations: other programs hardly change them.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from bare import peer_model, settings_of
from bench_utils import argument_parser, run_child

from korlm.api.training import train_in
from korlm.dataset.batches import Batches, StreamBatches
from korlm.dataset.prepared import open_prepared
from korlm.runs.device import uses_bf16
from korlm.utils.errors import Pruned

UNITS, LAYERS, DROPOUT, BATCH, EVAL_BATCH, LENGTH, CLIP = 200, 2, 0.2, 20, 10, 35, 0.25
PEER, KORLM = "word_language_model", "korlm"


def train_peer(folder: Path, prepared_folder: Path, epochs: int, lr: float) -> list[list[float]]:
    """Train the example's network as its main.py does.

    Returns:
        Seconds of the processor until the end of each epoch, and the perplexity of valid.
    """
    torch.manual_seed(1)
    prepared = open_prepared(prepared_folder)
    model = peer_model(folder, len(prepared.vocab), UNITS, LAYERS, DROPOUT)
    train = StreamBatches(prepared.ids("train"), BATCH, LENGTH)
    valid = StreamBatches(prepared.ids("valid"), EVAL_BATCH, LENGTH)
    history: list[list[float]] = []
    best, start = math.inf, time.process_time()
    for epoch in range(epochs):
        peer_epoch(model, train, epoch, lr)
        nats = peer_epoch(model, valid, epoch, None)
        history.append([time.process_time() - start, math.exp(nats)])
        if nats < best:
            best = nats
        else:
            lr /= 4.0
    return history


def peer_epoch(model: Any, batches: Batches, epoch: int, lr: float | None) -> float:
    """Train on all batches, or evaluate without a learning rate; return nats per token."""
    model.train(lr is not None)
    hidden, total = model.init_hidden(batches.batch_size), 0.0
    with torch.set_grad_enabled(lr is not None):
        for batch in batches.epoch(epoch):
            inputs, targets = batch.inputs.t().contiguous(), batch.targets.t().reshape(-1)
            output, hidden = model(inputs, tuple(part.detach() for part in hidden))
            # Row 0 is <pad>, which ends the shorter columns of the last batch.
            loss = torch.nn.functional.nll_loss(output, targets, ignore_index=0)
            total += float(loss.detach()) * batch.num_targets
            if lr is not None:
                model.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.sub_(parameter.grad, alpha=lr)
    return total / batches.num_targets


def train_korlm(overrides: list[str], target: float) -> list[list[float]]:
    """Train with korlm until the perplexity of valid is ``target`` or lower.

    Returns:
        Seconds of the processor until each validation, and the perplexity of valid.
    """
    history: list[list[float]] = []

    def note(step: int, fraction: float, metrics: Mapping[str, float]) -> None:
        history.append([time.process_time() - start, metrics["perplexity"]])
        if history[-1][1] <= target:
            raise Pruned("as good as the peer")

    settings = settings_of(overrides)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        with suppress(Pruned):
            train_in(Path(folder), settings, overrides, callback=nullcontext(note))
    return history


def main() -> None:
    """Train both and print the ratio of their times."""
    parser = argument_parser(__doc__)
    parser.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="settings of korlm.train")
    parser.add_argument("--peer", type=Path, required=True, metavar="FOLDER", help="of model.py")
    parser.add_argument("--epochs", type=int, default=6, help="of the peer")
    parser.add_argument("--lr", type=float, nargs="+", default=[20.0, 5.0], help="of the peer")
    parser.add_argument("--target", type=float, help=argparse.SUPPRESS)  # of the child processes
    options = parser.parse_intermixed_args()
    overrides = ["trainer.threads=1", *options.overrides]
    settings = settings_of(overrides)
    assert settings.prepared is not None
    if options.target is not None:
        torch.set_num_threads(1)
        if options.target:
            print(json.dumps(train_korlm(overrides, options.target)))
        else:
            folder = Path(settings.prepared)
            print(json.dumps(train_peer(options.peer, folder, options.epochs, options.lr[0])))
        return

    precision = "bf16" if uses_bf16(settings.trainer, torch.device("cpu")) else "fp32"
    arguments = [__file__, *options.overrides, "--peer", options.peer, "--epochs", options.epochs]
    best = [math.inf, math.inf]
    for lr in options.lr:
        history = run_child(*arguments, "--lr", lr, "--target", 0)
        seconds, perplexity = min(history, key=lambda point: point[1])
        print(f"{PEER}, lr {lr:g}: perplexity {perplexity:.1f} after {seconds:.0f} s", flush=True)
        best = min(best, [seconds, perplexity], key=lambda point: point[1])
    history = run_child(*arguments, "--target", best[1])
    seconds, perplexity = history[-1]
    print(f"{KORLM}, {precision}: perplexity {perplexity:.1f} after {seconds:.0f} s")
    if perplexity > best[1]:
        print(f"the perplexity of {PEER} was not reached")
    else:
        print(f"{best[0] / seconds:.2f} times sooner than the best of {PEER}")


if __name__ == "__main__":
    main()
