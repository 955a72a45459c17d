"""What torchrun tells each process that it starts; without torchrun a process is alone.

Light on purpose: commands ask here before they know whether their settings are valid.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """A process among those that work together.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        local_rank: its number on this machine, and that of its GPU.
        local_size: how many there are on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether it is the one that talks and writes."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody else."""
        return self.size == 1


def place() -> Rank:
    """The place of this process.

    RANK and WORLD_SIZE are left alone where torchrun did not set them: clusters set them as well.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Rank()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Rank(*(int(os.environ[name]) for name in names))


@contextlib.contextmanager
def exit_immediately() -> Iterator[None]:
    """Around a whole command: ends a process of several at once when the command has ended.

    PyTorch's threads for talking may outlive the connections they were for. Python's usual end then
    aborts the process, which happened to one run in six, all files being written, and torchrun
    takes a finished run for a failed one.
    """
    code: object = 0
    try:
        yield
    except SystemExit as end:
        if place().is_alone:
            raise
        code = end.code
    if not place().is_alone:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
