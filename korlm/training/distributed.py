"""Several processes that train one model as one process would: torchrun starts them.

Each process holds the whole model and works on its rows of every batch (``RankBatches`` in
korlm.dataset.batches). Losses are summed and divided by the tokens of the whole batch before
gradients flow back, so that the sum of the processes' gradients is the gradient of the batch,
however its
tokens are spread.

This is data parallelism as DistributedDataParallel does it (Li et al. 2020), without its wrapper.
That one overlaps sums with the backward pass; here the largest gradient by far is the embedding's,
which as a tied output matrix is complete at the very end, so there is nothing to overlap with. It
would also copy the gradients into buckets, average where a token-weighted sum is needed, want a
``forward``, and hang where one process has no rows. Large gradients are summed where they lie,
small ones in one buffer.

Talk that decides something goes over the CPU (gloo), so that a step never waits for a GPU; the
gradients of GPUs go over NCCL. Nothing here knows models or settings.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from korlm.utils.dist_env import Rank
from korlm.utils.errors import TrainingError

T = TypeVar("T")

SMALL = 1 << 16  # elements; gradients below are summed together, one message costs 0.1 ms
# Between two meetings lie a step, a sample or the writing of a checkpoint, all far shorter.
TIMEOUT = timedelta(minutes=10)
FAREWELL_SECONDS = 10.0


class ProcessGroup:
    """The processes that train together; whoever is alone meets nobody and waits for nothing.

    As a context manager it holds the connections, and closes them whatever happens: a process that
    leaves them open at its end is told off by PyTorch.

    Args:
        place: of this process among them.
    """

    def __init__(self, place: Rank) -> None:
        self.place = place
        self.rank, self.size = place.rank, place.size
        self.is_main_process, self.is_alone = place.is_main_process, place.is_alone

    def __enter__(self) -> ProcessGroup:
        if not self.is_alone:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            with _connection_errors():
                dist.init_process_group(
                    backend, store=_store(), rank=self.rank, world_size=self.size, timeout=TIMEOUT
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.is_alone:
            dist.destroy_process_group()

    def tell(self, *texts: str) -> None:
        """Leaves texts for the others to ``hear``; the first process alone does so, once."""
        if not self.is_alone:
            _store().set("texts", json.dumps(texts))

    def hear(self) -> list[str]:
        """Waits for what the first process tells, however long it works on it.

        The wait is in Python and not in a meeting of all: preparing a corpus may take hours, more
        than any timeout, and Ctrl-C must get through.
        """
        store = _store()
        while not store.check(["texts"]):
            if store.check(["farewell"]):
                raise TrainingError("the first process has ended")
            time.sleep(0.1)
        texts: list[str] = json.loads(store.get("texts"))
        return texts

    def any(self, flag: bool) -> bool:
        """Whether the flag is up anywhere: the same answer everywhere."""
        return flag if self.is_alone else self._any([flag])[0]

    def _any(self, flags: list[bool]) -> list[bool]:
        found = torch.tensor(flags, dtype=torch.uint8)
        with _connection_errors():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found.tolist()]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the CPU; alone the values themselves."""
        if self.is_alone:
            return values
        total = values.detach().to("cpu", copy=True)
        with _connection_errors():
            dist.all_reduce(total)
        return total

    def gather(self, value: T) -> list[T]:
        """What each process gives, by rank, for all of them: plain values, tensors on the CPU."""
        if self.is_alone:
            return [value]
        found: list[Any] = [None] * self.size
        with _connection_errors():
            dist.all_gather_object(found, value)
        return found

    def broadcast_parameters(self, model: nn.Module) -> None:
        """Gives all processes the parameters and buffers of the first."""
        if self.is_alone:
            return
        with _connection_errors():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gives every process the sum of all gradients, in place.

        A parameter without a gradient in any process stays without one, as optimizers leave out
        such parameters; where only some have one (this process had no rows) the rest add zeros.
        """
        if self.is_alone:
            return
        everyone = list(parameters)
        used = self._any([parameter.grad is not None for parameter in everyone])
        large: list[Tensor] = []
        small: list[Tensor] = []
        for parameter, is_used in zip(everyone, used, strict=True):
            if is_used:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                (small if parameter.grad.numel() < SMALL else large).append(parameter.grad)
        together = torch.cat([grad.flatten() for grad in small]) if small else None
        with _connection_errors():
            messages = [*large] if together is None else [*large, together]
            for work in [dist.all_reduce(message, async_op=True) for message in messages]:
                work.wait()
        if together is not None:
            parts = torch.split(together, [grad.numel() for grad in small])
            for grad, part in zip(small, parts, strict=True):
                grad.copy_(part.view_as(grad))


SINGLE_PROCESS = ProcessGroup(Rank())


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """Turns a lost connection into one line."""
    try:
        yield
    except RuntimeError as error:
        where = r"^\[[^ ]*\] "  # the line of gloo's code
        reason = re.sub(where, "", str(error).splitlines()[0])[:120]
        raise TrainingError(
            f"the connection to another process broke off ({reason}): it has ended or died, for "
            "want of memory perhaps; go on from the last checkpoint with resume=DIR"
        ) from error


@functools.cache
def _store() -> Any:
    """Where the processes leave notes for each other; torchrun's agent keeps it as a rule.

    Each restart by torchrun begins with an empty one.
    """
    env = os.environ
    is_kept_by_agent = env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(  # type: ignore[attr-defined]
        env["MASTER_ADDR"],
        int(env["MASTER_PORT"]),
        is_master=not is_kept_by_agent and env["RANK"] == "0",
        timeout=TIMEOUT,
        wait_for_workers=False,
    )
    restart = env.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"korlm/{restart}", store)  # type: ignore[attr-defined]


def report_error_once(place: Rank, line: str) -> None:
    """Tells the line that ends a command once, by the first process, and waits till it is told.

    torchrun ends all processes as soon as one of them fails. All make the same mistake as a rule,
    the slowest would not get to tell it, and the user would see nothing. A process that fails by
    itself tells its own line.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if place.is_main_process:
        sys.stderr.write(line)
        sys.stderr.flush()
        with contextlib.suppress(RuntimeError):
            _store().set("farewell", "")
        return
    with contextlib.suppress(RuntimeError):
        until = time.monotonic() + FAREWELL_SECONDS
        while time.monotonic() < until:
            if _store().check(["farewell"]):
                return
            time.sleep(0.05)
    sys.stderr.write(f"process {place.rank} of {place.size}: {line}")
