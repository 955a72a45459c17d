"""Chooses where the pieces of a corpus are prepared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from korlm.config import ClusterConfig, TokenizerConfig
from korlm.dataset.executors.base import Executor
from korlm.utils.errors import require_extra


@contextlib.contextmanager
def open_executor(
    config: ClusterConfig, tokenizer: TokenizerConfig, logs: Path
) -> Iterator[Executor]:
    """Yield the executor of the settings.

    Args:
        config: settings of the cluster.
        tokenizer: settings of the tokenizer.
        logs: folder of the output of jobs.

    Raises:
        ClusterError: the cluster cannot be reached.
        MissingPackageError: Dask is not installed.
    """
    if config.cluster is None:
        yield Executor()
        return
    with require_extra("distributed"):
        from korlm.dataset.executors.dask_executor import DaskExecutor
    with DaskExecutor(config, tokenizer, logs) as executor:
        yield executor
