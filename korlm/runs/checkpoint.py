"""Write and read checkpoints: dicts of plain values and tensors, opened with ``weights_only``.

format        1
config        settings as plain dicts, including corpus and tokenizer
fingerprint   fingerprint of the prepared corpus
prepared      folder of the prepared corpus at training time
labels        labels that the model predicts; empty for a language model
vocab         {"tokens": [...], "counts": [...]}
spelling      {name: tensor} of the spelling model
learned       tokenizer model that was trained on train, a uint8 tensor of its bytes, or None
model         state dict
optimizer     state dict; None in best.pt
progress      ``korlm.training.checkpointing.Progress``
state         (last.pt) recurrent state after the last batch, a list of tensors, or None
rng           (last.pt) states of the random number generators; with several processes a list
"""

from __future__ import annotations

import contextlib
import errno
import pickle
import shlex
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from korlm.config.paths import quote_path
from korlm.config.stored import check_settings
from korlm.utils.dist_env import current_rank
from korlm.utils.errors import CheckpointError, KorlmError, OutputError, enough_memory, reading
from korlm.utils.io.atomic_files import atomic_write

FORMAT = 1
KEYS = {"format", "config", "fingerprint", "vocab", "spelling", "model", "optimizer", "progress"}
_PYTORCH_WRITER = "inline_container"  # in messages of PyTorch's C++ code that writes files

Checkpoint = dict[str, Any]


def settings_of(checkpoint: Checkpoint, source: Path) -> dict[str, Any]:
    """Return the settings in a checkpoint; ``CheckpointError`` if they are not plain or known."""
    return check_settings(checkpoint["config"], str(source), CheckpointError)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: the old file is replaced once the new one is on disk.

    Raises:
        OutputError: the file cannot be written, as when the disk is full.
    """
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **checkpoint}, file)
    except OSError as error:
        raise _not_written(path, error.strerror) from error
    except RuntimeError as error:
        if _PYTORCH_WRITER not in str(error):
            raise
        cause = error.__context__  # of the write that failed first
        reason = cause.strerror if isinstance(cause, OSError) else "writing failed; disk full?"
        raise _not_written(path, reason) from error


def _not_written(path: Path, reason: str | None) -> OutputError:
    """Return the error about a checkpoint that cannot be written, with advice."""
    hint = "free some space, or change its permissions, and run the same command again"
    if (path.parent / "last.pt").is_file():
        command = resume_command(path.parent.parent, current_rank().size)
        hint = (
            "the previous checkpoint is kept: free some space, or change its permissions, and "
            f"resume with {command}"
        )
    return OutputError(f"{path}: {reason}; {hint}")


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint onto the CPU, without running code that a file may contain.

    Raises:
        CheckpointError: the file cannot be read, is damaged or not a checkpoint of korlm.
    """
    loaded = _load_plain(path)
    if not isinstance(loaded, dict) or "format" not in loaded:
        raise CheckpointError(f"{path}: a PyTorch file, but not a checkpoint of korlm")
    if loaded["format"] != FORMAT:  # another format may have other keys
        raise CheckpointError(
            f"{path}: checkpoint format {loaded['format']}, this version of korlm reads {FORMAT}; "
            "use the version that wrote it"
        )
    if missing := sorted(KEYS - loaded.keys()):
        raise CheckpointError(f"{path}: has no {', '.join(missing)}: not a checkpoint of korlm")
    return loaded


def _load_plain(path: Path) -> Any:
    """Return the content of a file of PyTorch that holds plain values and tensors only.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or holds other objects.
    """
    damaged = f"{path}: damaged, or not a checkpoint"
    advice = _advice_if_damaged(path)
    try:
        with open(path, "rb") as file:
            starts_as_pickle = file.read(1) == pickle.PROTO
        if is_archive := zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch.load does not verify the checksums
                if (part := archive.testzip()) is not None:
                    raise CheckpointError(f"{damaged} (the checksum of {part} differs); {advice}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about files in other formats
            with enough_memory(str(path), "use a machine with more"):
                return torch.load(path, map_location="cpu", weights_only=True)
    except KorlmError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    # torch.load of arbitrary bytes raises anything: IndexError, struct.error, AssertionError, ...
    except Exception as error:
        # EINVAL: damaged bytes lead to a position before the beginning of the file.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise CheckpointError(
                f"{path}: cannot be read ({error.strerror}): check its permissions and its disk"
            ) from error
        if isinstance(error, pickle.UnpicklingError) and (is_archive or starts_as_pickle):
            raise CheckpointError(
                f"{path}: not a checkpoint of korlm: it holds more than plain data and tensors, "
                "and could run code when opened"
            ) from error
        raise CheckpointError(f"{damaged} ({_first_sentence(error)}); {advice}") from error


def _advice_if_damaged(path: Path) -> str:
    """Return what to do if a checkpoint is damaged: use the other one of the run, if any."""
    run = path.parent.parent
    if path.name == "best.pt" and path.with_name("last.pt").is_file():
        return "to use the model of the last step instead, copy last.pt over it"
    if path.name == "last.pt" and path.with_name("best.pt").is_file():
        return f"resume from the best model: {resume_command(run)} resume_from=best"
    return "the run has no other checkpoint: train again"


def matching_settings(path: Path) -> contextlib.AbstractContextManager[None]:
    """Return ``reading`` for a block that uses the entries of a loaded checkpoint.

    An entry that the block cannot use contradicts the settings in the same file.
    """
    advice = "copy it again, or train again"
    return reading(path, CheckpointError, advice, "does not match its own settings")


def resume_command(folder: Path, world_size: int = 1) -> str:
    """Return the command that resumes a run, quoted for a shell and for Hydra.

    >>> resume_command(Path("outputs/runs/a"), 2)
    'torchrun --nproc-per-node 2 -m korlm.train resume=outputs/runs/a'
    """
    start = "python" if world_size == 1 else f"torchrun --nproc-per-node {world_size}"
    return f"{start} -m korlm.train " + shlex.quote(f"resume={quote_path(folder)}")


def _first_sentence(error: Exception) -> str:
    """Return the beginning of a message; those of PyTorch have paragraphs of advice."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0][:120]


def random_states() -> dict[str, Any]:
    """Return the states of PyTorch's generators, the only ones that training uses."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = [torch.cuda.get_rng_state()]  # of the current GPU
    return states


def restore_random_states(states: dict[str, Any]) -> None:
    """Restore the states that ``random_states`` returned."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][0])
