"""Tokenizing that ends the worker it runs on, as nodes and drivers do."""

import os
import signal
from pathlib import Path

from korlm.dataset.executors.worker import tokenize_on_worker
from korlm.dataset.storage.piece_files import PieceRecord
from korlm.dataset.tokenize import PieceText, TokenizeSettings

MARK = "죽음"


def once(marker: str, settings: TokenizeSettings, version: str, text: PieceText) -> PieceRecord:
    """Kills the first worker that comes to it, when its files are complete."""
    record = tokenize_on_worker(settings, version, text)
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return record
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def always(settings: TokenizeSettings, version: str, text: PieceText) -> PieceRecord:
    """Kills every worker that comes to a piece with the mark."""
    if any(MARK in block.texts for block in text.lines(settings)):
        os.kill(os.getpid(), signal.SIGKILL)
    return tokenize_on_worker(settings, version, text)


def failing(settings: TokenizeSettings, version: str, text: PieceText) -> PieceRecord:
    """Fails as a full disk does."""
    raise OSError(28, "No space left on device")
