"""Freed memory is kept, measured by the page faults of blocks that are allocated again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Page faults of twenty blocks of 40 MB, each freed before the next, without and with
# keep_freed_memory.
CODE = """
import resource, torch
from korlm.utils.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(10_000_000).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
plain = faults()
assert keep_freed_memory()
faults()  # the heap grows once
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_blocks_are_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert kept * 5 < plain
