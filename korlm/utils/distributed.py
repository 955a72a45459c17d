"""Train in several processes that torchrun started: data parallelism without a wrapper.

Each process holds the whole model and processes its rows of every batch (``RankBatches`` in
korlm.dataset.batches). The loss is summed and divided by the number of tokens of the whole batch
before the backward pass, so the sum of the gradients over the processes is the gradient of the
batch, no matter how its tokens are distributed.

``torch.nn.parallel.DistributedDataParallel`` (Li et al. 2020) is not used. It overlaps the
all-reduce with the backward pass, but the largest gradient by far is that of the embedding, which
as a tied output matrix is complete only at the very end. It also copies gradients into buckets,
averages where a token-weighted sum is needed, requires a ``forward``, and hangs if a process has
no rows. Here large gradients are reduced in place and small ones in one buffer.

Control messages use gloo on the CPU, so a step never waits for a GPU; gradients of GPUs use NCCL.
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
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from korlm.utils.dist_env import Rank
from korlm.utils.errors import TrainingError

T = TypeVar("T")

SMALL = 1 << 16  # elements; smaller gradients are reduced together, as one message costs 0.1 ms
# Limit for one collective. The longest waits, for a sample or a checkpoint of rank 0, are far
# shorter.
TIMEOUT = timedelta(minutes=10)
ERROR_REPORT_SECONDS = 10.0  # how long other ranks wait for rank 0 to print its error
_FROM_GLOO = re.compile(r"^(Gloo connectFullMesh failed with )?\[[^ ]*gloo[^ ]*\] ")
_MESSAGE, _ERROR_REPORTED = "message", "error_reported"  # keys in the store of the processes


class ProcessGroup:
    """Processes that train one model together. With one process every collective is a no-op.

    A context manager: it opens the connections and closes them, also after an exception, because
    PyTorch warns about a process that exits with open connections.
    """

    def __init__(self, env: Rank) -> None:
        self.env = env
        self.rank, self.world_size = env.rank, env.size
        self.is_main_process = env.is_main_process

    def __enter__(self) -> ProcessGroup:
        if self.world_size > 1:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            with _connection_errors():
                dist.init_process_group(
                    backend,
                    store=_store(),
                    rank=self.rank,
                    world_size=self.world_size,
                    timeout=TIMEOUT,
                )
        return self

    def __exit__(self, *error: object) -> None:
        if self.world_size > 1:
            dist.destroy_process_group()

    def publish(self, *texts: str) -> None:
        """Publish texts, which ``wait_for`` returns to the other ranks; rank 0 calls this once."""
        if self.world_size > 1:
            _store().set(_MESSAGE, json.dumps(texts))

    def wait_for(self) -> list[str]:
        """Wait until rank 0 has published texts, without a timeout, and return them.

        This polls the store instead of joining a collective, because rank 0 may prepare a corpus
        for hours, longer than ``TIMEOUT``, and Ctrl-C must work meanwhile.

        Raises:
            TrainingError: rank 0 failed.
        """
        store = _store()
        while not store.check([_MESSAGE]):
            if store.check([_ERROR_REPORTED]):
                raise TrainingError("rank 0 has failed")
            time.sleep(0.1)
        texts: list[str] = json.loads(store.get(_MESSAGE))
        return texts

    def barrier(self) -> None:
        """Wait until all processes have reached this point."""
        self.any_rank(False)

    def any_rank(self, flag: bool) -> bool:
        """Return True in all processes if the flag is True in any of them."""
        return flag if self.world_size == 1 else self._any_rank([flag])[0]

    def _any_rank(self, flags: list[bool]) -> list[bool]:
        """Return for each flag True if it is True in any process."""
        reduced = torch.tensor(flags, dtype=torch.uint8)
        with _connection_errors():
            dist.all_reduce(reduced, dist.ReduceOp.MAX)
        return [bool(flag) for flag in reduced.tolist()]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on the CPU; with one process, ``values`` itself."""
        if self.world_size == 1:
            return values
        total = values.detach().to("cpu", copy=True)
        with _connection_errors():
            dist.all_reduce(total)
        return total

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, plain ones or CPU tensors, in the order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _connection_errors():
            dist.all_gather_object(values, value)
        return values

    def broadcast_parameters(self, model: nn.Module) -> None:
        """Copy the parameters and buffers of rank 0 to all processes."""
        if self.world_size == 1:
            return
        with _connection_errors():
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes.

        A parameter that has no gradient in any process keeps none: optimizers skip it. If only some
        processes have a gradient, the others (which had no rows) add zeros.
        """
        if self.world_size == 1:
            return
        parameters = list(parameters)
        used = self._any_rank([parameter.grad is not None for parameter in parameters])
        large: list[Tensor] = []
        small: list[Tensor] = []
        for parameter, is_used in zip(parameters, used, strict=True):
            if is_used:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                (small if parameter.grad.numel() < SMALL else large).append(parameter.grad)
        buffers = [torch.cat([grad.flatten() for grad in small])] if small else []
        with _connection_errors():
            for work in [dist.all_reduce(part, async_op=True) for part in (*large, *buffers)]:
                work.wait()
        for buffer in buffers:
            parts = torch.split(buffer, [grad.numel() for grad in small])
            for grad, part in zip(small, parts, strict=True):
                grad.copy_(part.view_as(grad))


SINGLE_PROCESS = ProcessGroup(Rank())


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """Turn a lost connection into a ``TrainingError`` of one line.

    Gloo's errors of connections and timeouts begin with the line of its C++ code; other errors of
    a collective, such as wrong arguments, do not.
    """
    try:
        yield
    except RuntimeError as error:
        message = _FROM_GLOO.sub("", str(error))
        if message == str(error) and not isinstance(error, dist.DistError):
            raise
        reason = message.split("\n")[0][:120]
        raise TrainingError(
            f"lost the connection to another process ({reason}): it exited or was killed, possibly "
            "out of memory; resume from the last checkpoint with resume=DIR"
        ) from error


@functools.cache
def _store() -> Any:
    """Return the key-value store of the processes, usually hosted by torchrun's agent.

    Keys have the restart count as a prefix: after a restart by torchrun the store is empty.
    """
    env = os.environ
    is_hosted_by_agent = env.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = dist.TCPStore(  # type: ignore[attr-defined]
        env["MASTER_ADDR"],
        int(env["MASTER_PORT"]),
        is_master=not is_hosted_by_agent and env["RANK"] == "0",
        timeout=TIMEOUT,
        wait_for_workers=False,
    )
    restart = env.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"korlm/{restart}", store)  # type: ignore[attr-defined]


def report_error_once(env: Rank, line: str) -> None:
    """Print the error message of a command, if possible on rank 0 only.

    All processes usually fail with the same error, and torchrun ends all of them as soon as one
    exits. So the other ranks wait until rank 0 has printed its error. If it has printed none after
    ``ERROR_REPORT_SECONDS``, they print their own.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if env.is_main_process:
        sys.stderr.write(line)
        sys.stderr.flush()
        with contextlib.suppress(RuntimeError):
            _store().set(_ERROR_REPORTED, "")
        return
    with contextlib.suppress(RuntimeError):
        until = time.monotonic() + ERROR_REPORT_SECONDS
        while time.monotonic() < until:
            if _store().check([_ERROR_REPORTED]):
                return
            time.sleep(0.05)
    sys.stderr.write(f"process {env.rank} of {env.size}: {line}")
