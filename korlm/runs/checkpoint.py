"""Checkpoints: one plain dict each, enough by itself, opened with ``weights_only=True``.

format        1
config        settings as plain dicts, text and tokenizer included
fingerprint   of the prepared corpus
prepared      the folder where it lay
vocab         {"tokens": [...], "counts": [...]}
spelling      {name: tensor} of the spelling model
learned       what the tokenizer learned from train, a tensor of bytes, or None
model         state dict
optimizer     state dict; None in best.pt
progress      steps, epoch, position in the data, best loss ...
state         what the model had read, a list of tensors (stream) or None
rng           states of the random number generators; of several processes: a list of theirs
"""

from __future__ import annotations

import os
import pickle
import re
import shlex
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from korlm.config.stored import check_settings
from korlm.utils.errors import (
    CheckpointError,
    OutputError,
)


def settings_of(checkpoint: Checkpoint, source: Path) -> dict[str, Any]:
    """Return the settings in a checkpoint.

    Raises:
        CheckpointError: they are not plain values under the keys of this korlm.
    """
    return check_settings(checkpoint["config"], str(source), CheckpointError)


FORMAT = 1


KEYS = {"format", "config", "fingerprint", "vocab", "spelling", "model", "optimizer", "progress"}


Checkpoint = dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; the one before it stays until the new one is whole and on the disk.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **checkpoint}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    # PyTorch's writer turns a full disk into a RuntimeError.
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "writing failed; disk full?"
        again = "free some space and run the same command again"
        if (path.parent / "last.pt").is_file():
            again = (
                "the checkpoint before it is kept: free some space and go on with "
                f"resume={path.parent.parent}"
            )
        raise OutputError(f"{path}: {reason}; {again}") from error
    finally:  # an interrupt leaves nothing half-written either
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint onto the CPU; runs no code that a file may carry.

    Raises:
        CheckpointError: the file is missing, damaged or no checkpoint of korlm.
    """
    damaged = f"{path}: damaged, or no checkpoint"
    other = _instead_of(path)
    try:
        with open(path, "rb") as file:
            begins_as_pickle = file.read(1) == pickle.PROTO
        if is_archive := zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # PyTorch writes checksums, but reads past them
                if (part := archive.testzip()) is not None:
                    raise CheckpointError(f"{damaged} ({part} has changed); {other}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's guesses at what a foreign file may be
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such checkpoint") from None
    # Bytes that are no checkpoint bring up anything: IndexError, struct.error, AssertionError, ...
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and (is_archive or begins_as_pickle):
            raise CheckpointError(
                f"{path}: not a checkpoint of korlm: it holds more than plain data and tensors, "
                "and could run code when opened"
            ) from error
        raise CheckpointError(f"{damaged} ({_first_sentence(error)}); {other}") from error
    if not isinstance(loaded, dict) or not loaded.keys() >= KEYS:
        raise CheckpointError(f"{path}: a PyTorch file, but not a checkpoint of korlm")
    if loaded["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {loaded['format']}, this korlm reads {FORMAT}; use the "
            "korlm that wrote it"
        )
    return loaded


def _instead_of(path: Path) -> str:
    """Return what to do without a checkpoint that is damaged."""
    run = path.parent.parent
    if path.name == "best.pt":
        return "to use the model of the last step instead, copy last.pt over it"
    if path.name == "last.pt" and path.with_name("best.pt").is_file():
        return f"go on from the best model: {resume_command(run)} resume_from=best"
    return "there is no other checkpoint in its run: train again"


def resume_command(folder: Path, size: int = 1) -> str:
    """Return the command to go on with a run, as a shell and Hydra's grammar need it.

    Args:
        folder: of the run.
        size: number of processes that train together.

    >>> resume_command(Path("outputs/runs/a"), 2)
    'torchrun --nproc-per-node 2 -m korlm.train resume=outputs/runs/a'
    """
    value = str(folder)
    quoted = value if re.fullmatch(r"[\w./:\\-]+", value) else f"'{value}'"
    start = "python" if size == 1 else f"torchrun --nproc-per-node {size}"
    return f"{start} -m korlm.train " + shlex.quote(f"resume={quoted}")


def _first_sentence(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0][:120]


def random_states() -> dict[str, Any]:
    """The states of PyTorch's generators; nothing else draws random numbers in training."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = [torch.cuda.get_rng_state()]  # of the GPU in use, and none besides
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Puts the generators back where ``random_states`` found them."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][0])
