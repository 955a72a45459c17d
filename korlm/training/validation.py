"""Computes the loss of a model on one split."""

from __future__ import annotations

import time

import torch

from korlm.dataset.batches import Batches
from korlm.dataset.vocab import UNK_ID
from korlm.evaluation.metrics import LossSums
from korlm.models.base import LanguageModel
from korlm.modules.state import State
from korlm.training.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.training.stop import StopSignal
from korlm.training.trainer import _double
from korlm.utils.progress import ProgressBar
from korlm.utils.torch_backend import tf32


@torch.inference_mode()
def evaluate(
    model: LanguageModel,
    batches: Batches,
    device: torch.device,
    stop: StopSignal | None = None,
    progress: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
) -> LossSums:
    """One pass without dropout, in fp32: what every token of a split costs.

    Args:
        model: left in evaluation mode.
        batches: of the split.
        device: where the model is.
        stop: looked at between batches.
        progress: whether to show how far it is.
        group: the processes among which the rows of ``batches`` are shared; all are given the sums
            over all.
    """
    model.eval()
    started = time.perf_counter()
    sums = torch.zeros(2, dtype=torch.float64, device=_double(device))
    unknown = torch.zeros((), dtype=torch.int64, device=device)
    tokens = 0
    state: State | None = None
    bar = ProgressBar(total=len(batches), desc="evaluating", leave=False, shown=progress)
    with bar, tf32(False):
        for batch in batches.epoch(0):
            if stop is not None:
                stop.check()
            tokens += batch.num_tokens
            bar.update()
            if not len(batch.inputs):
                continue
            batch = batch.to(device)
            nats, after = model.token_nll(batch.inputs, batch.targets, state, batch.lengths)
            state = after if batches.carries_state else None
            is_unk = batch.targets == UNK_ID
            nats = nats.to(sums.device, torch.float64)
            of_unk = torch.where(is_unk.to(sums.device), nats, 0.0)  # an index would make us wait
            sums += torch.stack([nats.sum(), of_unk.sum()])
            unknown += is_unk.sum()
        total, unk_nats = group.sum(sums).tolist()
        unknown = group.sum(unknown)
        return LossSums(total, unk_nats, tokens, int(unknown), time.perf_counter() - started)
