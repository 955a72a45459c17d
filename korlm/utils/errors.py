"""Define the exceptions whose message is shown to the user in one line.

All of them except ``Interrupted`` are subclasses of ``KorlmError``: exit code 1, no traceback.
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


class KorlmError(Exception):
    """A user's mistake or bad data; the message says what, where, the limit and what to do."""


class ConfigError(KorlmError):
    """A setting that is unknown, ill-typed or out of range."""


class CorpusError(KorlmError):
    """Text that is missing, empty, binary, wrongly encoded or too small."""


class TokenizerError(KorlmError):
    """An analyzer that does not start or keeps dying."""


class ClusterError(KorlmError):
    """A cluster that cannot be reached, does not match or loses its workers."""


class VocabError(KorlmError):
    """A vocabulary that cannot be built or read."""


class PreparedError(KorlmError):
    """A prepared corpus that is damaged or belongs to other settings."""


class CheckpointError(KorlmError):
    """A checkpoint that is missing, damaged or not one of korlm."""


class NbestError(KorlmError):
    """N-best lists, scores or references that are missing or malformed."""


class TrainingError(KorlmError):
    """A training that cannot go on: a loss that is not finite, or a lost process."""


class Pruned(KorlmError):  # noqa: N818 - not an error
    """A trial that a search stopped early, because others are better."""


class SearchError(KorlmError):
    """A search without a single finished trial."""


class ExportError(KorlmError):
    """A model that cannot be exported."""


class SweepError(KorlmError):
    """A sweep job that failed in its own process."""


class MissingPackageError(KorlmError):
    """A package that only some commands need and that is not installed."""


class OutputError(KorlmError):
    """A full disk or a folder that cannot be written."""


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """Ctrl-C, after everything worth keeping was saved; the message says how to continue.

    Exit code 130.
    """


# Errno values that indicate a problem of the environment rather than a bug, beside those that
# ``output_errors`` lists.
_WRITING = {errno.ENOENT, errno.EIO, errno.EFBIG, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}


class OutputKey:
    """Setting that selects the output folder of the running command, for error messages."""

    name: str = "outputs=FOLDER"  # empty for a command that writes no folder


@contextmanager
def output_errors(
    path: Path, key: str | None = None, again: str = "run the same command again"
) -> Iterator[None]:
    """Turn failures to write under ``path`` into an ``OutputError`` of one line.

    ``key`` is the setting that selects another location; None: ``OutputKey.name``. ``again`` is
    what the message advises to do once the disk has room.
    """
    try:
        yield
    except OSError as error:
        key = key or OutputKey.name
        other = f" or give another {key}" if key else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk is full: free some space and {again}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"it cannot be written: change its permissions{other}"
        elif error.errno == errno.EEXIST and os.path.isdir(error.filename or path):
            reason = f"it exists, perhaps written by another process: use it, remove it{other}"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = f"a file is in the way of the folder: move it{other}"
        elif error.errno not in _WRITING:
            raise
        else:
            reason = f"writing failed ({error.strerror}): fix this{other}"
        raise OutputError(f"{error.filename or path}: {reason}") from error


@contextmanager
def reading(
    path: str | Path, kind: type[KorlmError], advice: str, problem: str = "damaged or missing"
) -> Iterator[None]:
    """Turn failures to read a file within the block into an error of the class ``kind``, one line.

    Libraries raise almost any exception for damaged bytes, and so does code that finds a value of
    another type. Those that only a bug of korlm causes are left alone; so is too little memory.

    Args:
        path: the file.
        kind: class of the error.
        advice: the action that the message recommends.
        problem: what the message says about the file.
    """
    try:
        yield
    except (KorlmError, MemoryError, NameError, AssertionError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"it has no {reason}"
        elif isinstance(error, UnicodeDecodeError):
            reason = f"is not UTF-8 at byte {error.start + 1}"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise kind(f"{path}: {problem} ({reason}); {advice}") from error


def not_a_choice(typed: str, value: str, choices: Collection[str]) -> str:
    """Return the message about a value that is not one of the choices; suggest the most similar.

    >>> not_a_choice("model=lstmm", "lstmm", ["gru", "lstm"])
    'model=lstmm: must be one of gru, lstm; did you mean lstm?'
    """
    similar = difflib.get_close_matches(value.lower(), choices, n=1)
    hint = f"; did you mean {similar[0]}?" if similar else ""
    return f"{typed}: must be one of {', '.join(choices)}{hint}"


def install_command(*packages: str) -> str:
    """Return the shell command that installs packages for the Python that runs korlm.

    It works for a checkout and for an installed korlm alike. In the ``.venv`` that scripts/train
    creates, it installs the versions of constraints.txt.
    """
    python = sys.executable or "python"
    if Path(python).is_relative_to(Path.cwd()):
        python = str(Path(python).relative_to(Path.cwd()))
    if importlib.util.find_spec("pip") is None:  # environments that uv makes
        words = ["uv", "pip", "install", "--python", python]
    else:
        words = [python, "-m", "pip", "install"]
    constraints = CHECKOUT / "constraints.txt"
    if Path(sys.prefix).resolve() == CHECKOUT / ".venv" and constraints.exists():
        words += ["-c", os.path.relpath(constraints) if os.name != "nt" else str(constraints)]
    words += packages
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


@contextmanager
def require_extra(*packages: str) -> Iterator[None]:
    """Turn a failed import within the block into a ``MissingPackageError`` of one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"the package {error.name} is not installed: {install_command(*packages)}"
        ) from error


@contextmanager
def enough_memory(what: str, advice: str) -> Iterator[None]:
    """Turn a failed allocation, on the CPU or a GPU, into a ``ConfigError`` of one line.

    ``what`` needs the memory; the message begins with it, and ends with the advice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # PyTorch raises RuntimeError: "can't allocate memory: you tried to allocate 8 bytes",
        # "CUDA out of memory", "Storage size calculation overflowed with sizes=[...]".
        text = str(error)
        pattern = r"allocate memory|out of memory|not enough memory|size calculation overflowed"
        if not (isinstance(error, MemoryError) or re.search(pattern, text)):
            raise
        wanted = re.search(r"tried to allocate (\d+) bytes", text)
        size = f" ({int(wanted[1]) / 1e9:,.1f} GB at once)" if wanted else ""
        raise ConfigError(f"{what}: needs more memory than available{size}; {advice}") from error


def reason_of(error: BaseException) -> str:
    """Return an exception as one line: its message and, unless it is a ``KorlmError``, its type."""
    text = str(error) if isinstance(error, KorlmError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
