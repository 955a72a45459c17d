"""Shard makers that end the worker they run in, as nodes and drivers do."""

import os
import signal
from pathlib import Path

from korlm.dataset.cluster.task import ShardResult, ShardText, TokenizerSpec, make_shard

MARK = "죽음"


def once(marker: str, kit: TokenizerSpec, shard: ShardText) -> ShardResult:
    """Kills the first worker that comes to it, in the midst of its work."""
    made = make_shard(kit, shard)
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return made
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def always(kit: TokenizerSpec, shard: ShardText) -> ShardResult:
    """Kills every worker that comes to a shard with the mark."""
    if MARK.encode() in shard.text:
        os.kill(os.getpid(), signal.SIGKILL)
    return make_shard(kit, shard)


def failing(kit: TokenizerSpec, shard: ShardText) -> ShardResult:
    """Fails as a full disk does."""
    raise OSError(28, "No space left on device")
