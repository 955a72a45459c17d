"""Read the rank and the world size of this process under torchrun.

Does not import torch: commands need the rank before they validate their settings.
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
    """One process of a distributed run, of ``size`` processes (world size).

    The local rank is the index on this machine, and the index of the GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Return True if this is rank 0, which logs and writes files."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Return True if this is the only process."""
        return self.size == 1


def current_rank() -> Rank:
    """Return the rank of this process.

    RANK and WORLD_SIZE count only under torchrun: clusters set them for other purposes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Rank()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Rank(*(int(os.environ[name]) for name in names))


@contextlib.contextmanager
def exit_immediately() -> Iterator[None]:
    """Exit with ``os._exit`` after the block, a whole command, if it is one of several processes.

    PyTorch's communication threads may outlive their connections. Python's normal exit then aborts
    the process (one run in six, after all files were written), and torchrun reports a finished run
    as failed.
    """
    code: object = 0
    try:
        yield
    except SystemExit as system_exit:
        if current_rank().is_alone:
            raise
        code = system_exit.code
    if not current_rank().is_alone:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
