"""Two processes that live as long as a test module, and the functions that tests run in them.

A spawned process takes seconds to import PyTorch, so they are started once. What torchrun's agent
would do is done here: the environment, and the store by which the processes connect.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny_runs import Splits, resume, start

import korlm.train
from korlm.config import TrainSettings
from korlm.dataset.prepared import open_prepared
from korlm.utils import distributed
from korlm.utils.dist_env import current_rank
from korlm.utils.distributed import ProcessGroup
from korlm.utils.errors import Interrupted

SIZE = 2


class Pair:
    """Calls functions in two processes at the same time."""

    def __init__(self) -> None:
        self._store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        self._num_calls = 0
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(SIZE):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, rank, self._store.port), daemon=True
            )
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return the results of both processes by rank; an exception is returned as a value."""
        self._num_calls += 1
        for pipe in self._pipes:
            pipe.send((self._num_calls, function, arguments))
        answers = []
        for pipe in self._pipes:
            assert pipe.poll(300), "a process hangs"
            answers.append(pipe.recv())
        return answers

    def close(self) -> None:
        """End both processes."""
        for process in self._processes:
            process.kill()
            process.join()


def _serve(pipe: Connection, rank: int, port: int) -> None:
    """Call the functions that are received, until the process is killed."""
    torch.set_num_threads(1)
    size = str(SIZE)
    os.environ |= {
        **{"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_USE_AGENT_STORE": "True"},
        **{"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)},
        **{"RANK": str(rank), "LOCAL_RANK": str(rank)},
        **{"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size},
    }
    while True:
        number, function, arguments = pipe.recv()
        # As after a restart by torchrun: earlier entries of the store are not read.
        os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)
        distributed._store.cache_clear()
        try:
            answer = function(*arguments)
        except Exception as error:
            answer = error
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        pipe.send(answer)


@dataclass
class Trained:
    """The result of a run in one process."""

    splits: Splits | None
    interrupted: str | None
    step: int
    parameters: dict[str, torch.Tensor]
    losses: list[float]


def train(
    settings: TrainSettings, prepared: Path, folder: Path, stop_step: int = 0, stop_rank: int = 0
) -> Trained:
    """Train a new run; at a step, one of the processes receives a signal."""
    with ProcessGroup(current_rank()) as group:
        return ended(start(settings, open_prepared(prepared), folder, group), stop_step, stop_rank)


def resume_run(prepared: Path, folder: Path) -> Trained:
    """Resume a run."""
    with ProcessGroup(current_rank()) as group:
        return ended(resume(open_prepared(prepared), folder, group))


def ended(run: Any, stop_step: int = 0, stop_rank: int = 0) -> Trained:
    """Train a run to its end, or until a signal stops it."""
    losses: list[float] = []
    log_scalars = run.tracker.log_scalars

    def note_loss(step: int, scalars: dict[str, float]) -> None:
        if "loss/train" in scalars:
            losses.append(scalars["loss/train"])
        log_scalars(step, scalars)

    def hook(*arguments: object) -> None:
        if run.progress.step + 1 == stop_step and run.group.rank == stop_rank:
            os.kill(os.getpid(), signal.SIGINT)

    run.tracker.log_scalars = note_loss
    run.checkpoints.optimizer.register_step_post_hook(hook)
    splits = interrupted = None
    try:
        splits = run.fit()
    except Interrupted as stopped:
        interrupted = str(stopped)
    parameters = {name: part.clone() for name, part in run.model.state_dict().items()}
    return Trained(splits, interrupted, run.progress.step, parameters, losses)


def command(folder: Path, *overrides: str) -> tuple[int, str, str]:
    """Run ``korlm.train`` in a folder; return exit code, stdout and stderr."""
    os.chdir(folder)
    sys.argv = ["train", *overrides]
    os.environ.pop("HYDRA_FULL_ERROR", None)
    code: object = 0
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        try:
            korlm.train.main()
        except SystemExit as end:
            code = end.code
    logging.getLogger().handlers[:] = []
    return int(str(code or 0)), out.getvalue(), err.getvalue()


def half_a_gradient() -> list[list[float] | None]:
    """Sum the gradients of four parameters: of both ranks, of one, of none, and a large one."""
    with ProcessGroup(current_rank()) as group:
        sizes = (2, 3, 2, distributed.SMALL)
        parameters = [torch.nn.Parameter(torch.zeros(size)) for size in sizes]
        for number in (0, 3):
            parameters[number].grad = torch.full((sizes[number],), 1.0 + group.rank)
        if group.rank == 1:
            parameters[1].grad = torch.tensor([1.0, 2.0, 3.0])
        group.sum_gradients(parameters)
        return [None if p.grad is None else p.grad[:3].tolist() for p in parameters]


def use_all_collectives() -> tuple[bool, bool, float, list[int], float]:
    """Return the results of each collective operation."""
    with ProcessGroup(current_rank()) as group:
        model = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(model.weight, group.rank + 5.0)
        group.broadcast_parameters(model)
        return (
            group.any_rank(group.rank == 1),
            group.any_rank(False),
            float(group.sum(torch.tensor(1.5 + group.rank, dtype=torch.float64))),
            group.gather(group.rank),
            model.weight.item(),
        )


def one_leaves() -> bool:
    """Leave the group in the second process while the first waits for it."""
    with ProcessGroup(current_rank()) as group:
        return group.rank == 1 or group.any_rank(True)


def sum_what_cannot_be_summed() -> str:
    """Return the name of the error of a collective that gets a wrong argument."""
    with ProcessGroup(current_rank()) as group:
        try:
            group.sum(torch.zeros(2, dtype=torch.int16))
        except Exception as error:
            return type(error).__name__
    return "no error"


def only_the_second_fails() -> tuple[int, str, str]:
    """Raise an error in the second process only, which has to report it."""
    distributed.ERROR_REPORT_SECONDS = 0.2
    with contextlib.redirect_stderr(io.StringIO()) as err:
        if current_rank().rank == 1:
            distributed.report_error_once(current_rank(), "korlm: here alone\n")
    distributed.ERROR_REPORT_SECONDS = 10.0
    return 0, "", err.getvalue()


def publish_and_wait() -> list[str]:
    """Publish texts in rank 0; return those that rank 1 receives."""
    group = ProcessGroup(current_rank())
    if group.is_main_process:
        group.publish("가", "b")
        return []
    return group.wait_for()
