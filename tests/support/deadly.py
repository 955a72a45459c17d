"""Tokenize functions that kill the worker process they run on."""

import os
import signal
import time
from pathlib import Path

from korlm.dataset.executors.worker import tokenize_on_worker
from korlm.dataset.storage.piece_files import PieceRecord
from korlm.dataset.tokenize import PieceText, TokenizeSettings

MARK = "죽음"


def once(marker: str, settings: TokenizeSettings, version: str, text: PieceText) -> PieceRecord:
    """Kill the first worker that calls it, after its files are complete."""
    record = tokenize_on_worker(settings, version, text)
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return record
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def always(settings: TokenizeSettings, version: str, text: PieceText) -> PieceRecord:
    """Kill every worker that gets a piece with the mark."""
    if any(MARK in block.texts for block in text.lines(settings)):
        # Dask gives up a worker that dies before its parent process has noted that it started.
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return tokenize_on_worker(settings, version, text)


def failing(settings: TokenizeSettings, version: str, text: PieceText) -> PieceRecord:
    """Raise the error of a full disk."""
    raise OSError(28, "No space left on device")


def wait_for_refusal(
    marker: str, settings: TokenizeSettings, version: str, text: PieceText
) -> PieceRecord:
    """Tokenize a piece, and return when the file ``marker`` exists."""
    record = tokenize_on_worker(settings, version, text)
    while not Path(marker).exists():
        time.sleep(0.05)
    return record
