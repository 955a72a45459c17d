"""Measure training steps of korlm and of other implementations on one GPU, and check korlm there.

    python scripts/bench/gpu.py [--device cuda] [--small] [--output gpu.json]

Every network trains on the same batches: the LSTM with tied weights of PyTorch's example
word_language_model, the same with cross-entropy instead of log-softmax and NLLLoss (nn.LSTM),
AWD-LSTM (Merity et al. 2018: DropConnect of the hidden-to-hidden weights, AR, TAR), and korlm's
LSTM and Transformer. A row has tokens per second, the time that its matrix products would take at
the rate of a large product of the same precision, as a fraction of its time, and the peak memory. A
row that does not fit into memory prints "out of memory". Takes less than six minutes.

The checks: losses equal those of the CPU, a resumed training equals an uninterrupted one bit for
bit, and no step waits for the GPU. Exit code 1 if one fails. Without a GPU, --device cpu --small
runs the same code with small sizes.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bare import bare_trainer, endless, zipf_batches
from bench_utils import argument_parser
from torch import Tensor, nn

from korlm.config import (
    AdamConfig,
    LSTMConfig,
    ModelConfig,
    MuonConfig,
    OptimizerConfig,
    Softmax,
    TransformerConfig,
)
from korlm.dataset.batches import Batch, StreamBatches
from korlm.dataset.vocab import PAD_ID
from korlm.models.registry import build_model
from korlm.modules.dropout import embedding_dropout, sequence_dropout, weight_dropout
from korlm.modules.fused_cross_entropy import linear_cross_entropy
from korlm.modules.rnn import lstm_runs_in_bf16
from korlm.runs.checkpoint import random_states, restore_random_states
from korlm.training.optimizers import build_optimizer
from korlm.training.trainer import Trainer
from korlm.utils.torch_backend import autocast, tf32

State = tuple[Tensor, ...]
DROPOUT = 0.2
WARMUP_STEPS = 3
CHECKED_STEPS = 6
LOSS_TOLERANCE = 1e-3  # relative; fp32 without TF32


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A network and its batches.

    Attributes:
        units: of embedding and each layer.
    """

    batch: int
    length: int
    units: int
    vocab: int
    layers: int = 2

    def __str__(self) -> str:
        return f"{self.layers} x {self.units}, V {self.vocab:,}, {self.batch} x {self.length}"


SMALL = [Sizes(3, 5, 8, 50)]
FULL = [
    Sizes(20, 35, 200, 10_000),
    Sizes(80, 70, 650, 10_000),
    Sizes(64, 70, 1_500, 50_000),
    Sizes(256, 70, 1_500, 50_000),
]


# --- other implementations -----------------------------------------------------


class PlainLSTM(nn.Module):
    """The network of word_language_model: embedding, nn.LSTM, tied output layer."""

    def __init__(self, sizes: Sizes, log_softmax: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocab, sizes.units)
        self.lstm = nn.LSTM(sizes.units, sizes.units, sizes.layers, dropout=DROPOUT)
        self.output = nn.Linear(sizes.units, sizes.vocab)
        self.output.weight = self.embedding.weight
        self.log_softmax = log_softmax

    def forward(self, inputs: Tensor, targets: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the mean loss of time-first ids (T, B) without padding, and the state."""
        x = F.dropout(self.embedding(inputs), DROPOUT, self.training)
        x, state = self.lstm(x, state)
        logits = self.output(F.dropout(x, DROPOUT, self.training)).flatten(0, 1)
        if self.log_softmax:
            log_probs = F.log_softmax(logits, 1)
            return F.nll_loss(log_probs, targets.flatten(), ignore_index=PAD_ID), state
        return F.cross_entropy(logits, targets.flatten(), ignore_index=PAD_ID), state


class AwdLSTM(nn.Module):
    """AWD-LSTM: one mask for all time steps, DropConnect, AR and TAR."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocab, sizes.units)
        self.layers = nn.ModuleList(nn.LSTM(sizes.units, sizes.units) for _ in range(sizes.layers))
        self.output = nn.Linear(sizes.units, sizes.vocab)
        self.output.weight = self.embedding.weight

    def forward(self, inputs: Tensor, targets: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Return the mean loss of time-first ids (T, B), regularized in training; and the state."""
        x = embedding_dropout(
            self.embedding(inputs), inputs, self.embedding.num_embeddings, 0.1, self.training
        )
        after: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            x = sequence_dropout(x, DROPOUT, self.training, variational=True)
            weight = weight_dropout(layer.get_parameter("weight_hh_l0"), 0.5, self.training)
            before = None if state is None else state[2 * number : 2 * number + 2]
            x, new = torch.func.functional_call(layer, {"weight_hh_l0": weight}, (x, before))
            after += new
        dropped = sequence_dropout(x, DROPOUT, self.training, variational=True)
        logits = self.output(dropped).flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten(), ignore_index=PAD_ID)
        if self.training:
            loss = loss + 2 * dropped.square().mean() + (x[1:] - x[:-1]).square().mean()
        return loss, tuple(after)


def sgd_step(model: nn.Module, batches: Iterator[Batch], bf16: bool) -> Callable[[], Tensor]:
    """Return a function that takes one step of SGD with clipped gradients."""
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    state: State | None = None

    def step() -> Tensor:
        nonlocal state
        batch = next(batches).to(device)
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, bf16):
            loss, state = model(batch.inputs.t(), batch.targets.t(), state)
        state = tuple(part.detach() for part in state)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        detached: Tensor = loss.detach()
        return detached

    return step


# --- korlm ------------------------------------------------------------------


def lstm_config(sizes: Sizes, dropout: float = DROPOUT, **settings: Any) -> LSTMConfig:
    """Return the settings of korlm's LSTM with these sizes."""
    return LSTMConfig(
        name="lstm",
        embedding_dim=sizes.units,
        hidden_dim=sizes.units,
        num_layers=sizes.layers,
        variational_dropout=True,
        input_dropout=dropout,
        hidden_dropout=dropout,
        output_dropout=dropout,
        **settings,
    )


def transformer_config(sizes: Sizes) -> TransformerConfig:
    """Return the settings of a Transformer of the same width."""
    heads = max(1, sizes.units // 64)
    return TransformerConfig(
        name="transformer",
        embedding_dim=sizes.units - sizes.units % (2 * heads),
        hidden_dim=2 * sizes.units,
        num_layers=sizes.layers,
        num_heads=heads,
        window=2 * sizes.length,
    )


ADAMW = AdamConfig(name="adamw", lr=0.001)
MUON = MuonConfig(name="muon", lr=0.001)


def stream(sizes: Sizes, device: torch.device) -> StreamBatches:
    """Return batches of ids with the frequencies of words (Zipf's law)."""
    on_gpu = device if device.type == "cuda" else None
    num_tokens = sizes.batch * sizes.length * 8
    return zipf_batches(num_tokens, sizes.vocab, sizes.batch, sizes.length, on_gpu)


def build_trainer(
    config: ModelConfig,
    sizes: Sizes,
    device: torch.device,
    optimizer: OptimizerConfig = ADAMW,
    bf16: bool = False,
) -> Trainer:
    """Return korlm's trainer of a new model; its weights do not depend on the device."""
    torch.manual_seed(1)
    model = build_model(config, sizes.vocab).to(device)
    batches = stream(sizes, device)
    return bare_trainer(model, build_optimizer(model, optimizer, bf16), batches, bf16)


def korlm_step(trainer: Trainer, batches: Iterator[Batch]) -> Callable[[], Tensor]:
    """Return a function that takes one step of korlm's training loop."""
    return lambda: trainer.train_step(next(batches))


# --- measurements -----------------------------------------------------------


def synchronize(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(call: Callable[[], Any], device: torch.device, budget: float) -> float:
    """Return the mean time of a call, after a warmup, within about ``budget`` seconds."""
    for _ in range(WARMUP_STEPS):
        call()
    synchronize(device)
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < budget:
        for _ in range(4):
            call()
        synchronize(device)
        calls += 4
    return (time.perf_counter() - started) / calls


def measure(
    call: Callable[[], Any], device: torch.device, budget: float
) -> dict[str, float | None]:
    """Return the seconds of a call, and the peak memory in MB; None on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = seconds_per_call(call, device, budget)
    peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
    return {"seconds": seconds, "peak_memory_mb": peak}


def product_rate(device: torch.device, dtype: torch.dtype, size: int, budget: float) -> float:
    """Return the operations per second of a large matrix product."""
    matrix = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / seconds_per_call(lambda: matrix @ matrix, device, budget)


def num_operations(model: nn.Module, sizes: Sizes) -> float:
    """Return the operations of a step's products: 2 forward and 4 backward per weight and token.

    A tied matrix counts once, as the output layer. Attention itself is left out.
    """
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    return 6.0 * weights * sizes.batch * sizes.length


def table_rows(
    sizes: Sizes,
) -> dict[str, tuple[Callable[[torch.device], nn.Module | Trainer], bool]]:
    """Return a function that builds the network of each row, and whether the row is in bf16."""
    lstm, adaptive = (
        lstm_config(sizes),
        lstm_config(sizes, softmax=Softmax.adaptive, cutoffs=[max(4, sizes.vocab // 10)]),
    )

    def korlm(config: ModelConfig, optimizer: OptimizerConfig, bf16: bool) -> Any:
        return (lambda device: build_trainer(config, sizes, device, optimizer, bf16)), bf16

    rows: dict[str, Any] = {}
    for bf16 in (False, True):
        precision = "bf16" if bf16 else "fp32"
        rows |= {
            f"word_language_model {precision}": (lambda d: PlainLSTM(sizes, True).to(d), bf16),
            f"nn.LSTM {precision}": (lambda d: PlainLSTM(sizes, False).to(d), bf16),
            f"AWD-LSTM {precision}": (lambda d: AwdLSTM(sizes).to(d), bf16),
            f"korlm {precision}": korlm(lstm, ADAMW, bf16),
        }
    return rows | {
        "korlm bf16 muon": korlm(lstm, MUON, True),
        "korlm bf16 adaptive": korlm(adaptive, ADAMW, True),
        "korlm bf16 transformer": korlm(transformer_config(sizes), ADAMW, True),
    }


def measure_steps(
    sizes: Sizes, device: torch.device, rates: dict[str, float], budget: float
) -> list[dict[str, Any]]:
    """Return one entry per network."""
    entries = []
    for name, (build, bf16) in table_rows(sizes).items():
        entry: dict[str, Any] = {"sizes": str(sizes), "name": name}
        try:
            built = build(device)
            if bf16 and device.type == "cpu" and not lstm_runs_in_bf16():
                entries.append({**entry, "error": "skipped: this CPU has no LSTM in bf16"})
                continue
            batches = endless(stream(sizes, device))
            model = built.model if isinstance(built, Trainer) else built
            if isinstance(built, Trainer):
                step = korlm_step(built, batches)
            else:
                step = sgd_step(model, batches, bf16)
            entry |= measure(step, device, budget)
            entry["tokens_per_second"] = sizes.batch * sizes.length / entry["seconds"]
            floor = num_operations(model, sizes) / rates["bf16" if bf16 else "fp32"]
            entry["compute_bound_fraction"] = floor / entry["seconds"]
        except torch.OutOfMemoryError:
            entry["error"] = "out of memory"
        entries.append(entry)
    return entries


def plain_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return the summed cross-entropy by PyTorch's operators."""
    with torch.autocast(hidden.device.type, dtype=torch.bfloat16, enabled=dtype != hidden.dtype):
        return F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")


def measure_softmax(sizes: Sizes, device: torch.device, budget: float) -> list[dict[str, Any]]:
    """Return time and memory of the output layer, forward and backward."""
    rows = sizes.batch * sizes.length
    shapes = ((rows, sizes.units), (sizes.vocab, sizes.units), (sizes.vocab,))
    hidden, weight, bias = (
        torch.randn(*shape, device=device, requires_grad=True) for shape in shapes
    )
    targets = torch.randint(1, sizes.vocab, (rows,), device=device)

    def passes(is_korlm: bool, dtype: torch.dtype) -> None:
        if is_korlm:
            loss = linear_cross_entropy(hidden, weight, bias, targets, 0, dtype)
        else:
            loss = plain_cross_entropy(hidden, weight, bias, targets, dtype)
        torch.autograd.grad(loss, (hidden, weight, bias))

    entries = []
    for dtype, is_korlm in itertools.product((torch.float32, torch.bfloat16), (True, False)):
        name = "korlm" if is_korlm else "F.cross_entropy(F.linear())"
        entry: dict[str, Any] = {"sizes": str(sizes), "name": f"softmax of {name}, {dtype}"}
        try:
            entry |= measure(functools.partial(passes, is_korlm, dtype), device, budget)
            entry["tokens_per_second"] = rows / entry["seconds"]
        except torch.OutOfMemoryError:
            entry["error"] = "out of memory"
        entries.append(entry)
    return entries


# --- checks -----------------------------------------------------------------


def train_losses(config: ModelConfig, sizes: Sizes, device: torch.device) -> list[float]:
    """Return the losses of some steps in fp32."""
    trainer = build_trainer(config, sizes, device)
    with tf32(False):
        batches = itertools.islice(endless(stream(sizes, device)), CHECKED_STEPS)
        return [float(trainer.train_step(batch)) / batch.num_targets for batch in batches]


def check_losses(sizes: Sizes, device: torch.device) -> dict[str, bool]:
    """Check that losses without dropout are those of the CPU."""
    configs = {"lstm": lstm_config(sizes, dropout=0), "transformer": transformer_config(sizes)}
    results = {}
    for name, config in configs.items():
        losses = train_losses(config, sizes, device)
        expected = train_losses(config, sizes, torch.device("cpu"))
        results[f"losses of {name} equal those of the CPU"] = bool(
            np.allclose(losses, expected, rtol=LOSS_TOLERANCE)
        )
    return results


def check_resume(sizes: Sizes, device: torch.device, bf16: bool) -> dict[str, bool]:
    """Check that training from a checkpoint gives the same weights, dropout included."""

    def new_trainer() -> Trainer:
        return build_trainer(lstm_config(sizes), sizes, device, MUON, bf16)

    batches = list(itertools.islice(endless(stream(sizes, device)), 2 * CHECKED_STEPS))
    uninterrupted = new_trainer()
    for batch in batches[:CHECKED_STEPS]:
        uninterrupted.train_step(batch)
    file = io.BytesIO()
    parts = (
        uninterrupted.model.state_dict(),
        uninterrupted.optimizer.state_dict(),
        uninterrupted.state,
        random_states(),
    )
    torch.save(parts, file)
    progress = copy.deepcopy(uninterrupted.progress)
    for batch in batches[CHECKED_STEPS:]:
        uninterrupted.train_step(batch)
    resumed = new_trainer()
    file.seek(0)
    model, optimizer, state, random = torch.load(file, weights_only=True)
    resumed.model.load_state_dict(model)
    resumed.optimizer.load_state_dict(optimizer)
    resumed.progress, resumed.state = progress, state
    restore_random_states(random)
    for batch in batches[CHECKED_STEPS:]:
        resumed.train_step(batch)
    weights = zip(uninterrupted.model.parameters(), resumed.model.parameters(), strict=True)
    name = f"resumed training equals an uninterrupted one, {'bf16' if bf16 else 'fp32'}"
    return {name: all(torch.equal(a, b) for a, b in weights)}


def check_synchronization(sizes: Sizes, device: torch.device) -> dict[str, bool]:
    """Check that steps do not wait for the GPU, by PyTorch's debug mode."""
    networks = {"lstm": lstm_config(sizes), "transformer": transformer_config(sizes)}
    results = {}
    for name, config in networks.items():
        trainer = build_trainer(config, sizes, device, MUON, bf16=True)
        step = korlm_step(trainer, endless(stream(sizes, device)))
        for _ in range(WARMUP_STEPS):
            step()
        ok = True
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr)
            ok = False
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        results[f"a step of {name} does not wait for the GPU"] = ok
    return results


# --- output -----------------------------------------------------------------


def show(entry: dict[str, Any]) -> None:
    """Print a row of the table."""
    line = f"{entry['sizes']:32} {entry['name']:52}"
    if "error" in entry:
        print(line, entry["error"])
        return
    peak, bound = entry["peak_memory_mb"], entry.get("compute_bound_fraction")
    print(
        f"{line} {entry['tokens_per_second']:11,.0f} tokens/s "
        f"{'' if bound is None else f'{bound:.0%}':>5} of the bound "
        f"{'-' if peak is None else f'{peak:,.0f}':>7} MB",
        flush=True,
    )


def main() -> None:
    """Run the checks and measurements, print them and write the JSON file."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--device", default="cuda", choices=["cuda", "cpu"], help="device of all networks"
    )
    parser.add_argument("--small", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--output", type=Path, default="gpu.json", help="JSON file to write")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU; use --device cpu --small to try the script")
    device = torch.device(options.device)
    all_sizes, budget = (SMALL, 0.001) if options.small else (FULL, 1.5)
    checked = SMALL[0] if options.small else FULL[0]
    checks = {
        **check_losses(checked, device),
        **check_resume(checked, device, bf16=False),
        **check_resume(checked, device, bf16=True),
        **check_synchronization(checked, device),
    }
    for name, ok in checks.items():
        print(f"{'ok' if ok else 'FAILED':7} {name}")
    product = 64 if options.small else 8192
    rates = {
        name: product_rate(device, dtype, product, budget)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    for name, rate in rates.items():
        print(f"product of {product} x {product} matrices in {name}: {rate / 1e12:.3g} TFLOP/s")
    entries: list[dict[str, Any]] = []
    for sizes in all_sizes:
        for part in (
            measure_steps(sizes, device, rates, budget),
            measure_softmax(sizes, device, budget),
        ):
            entries += part
            for entry in part:
                show(entry)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    result = {
        "device": name,
        "torch": torch.__version__,
        "flops_per_second": rates,
        "checks": checks,
        "rows": entries,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
