"""The exceptions that users meet. Each message is one line: what, where, the limit, what to do.

KorlmError                 a user's mistake or bad data: exit code 1, no traceback
├── ConfigError            a setting that is unknown, ill-typed or out of range
├── CorpusError            text that is missing, empty, binary, wrongly encoded or too small
├── TokenizerError         an analyzer that does not start or dies for good
├── ClusterError           a cluster that cannot be reached, does not fit or loses its workers
├── VocabError             a vocabulary that cannot be made or read
├── PreparedError          a prepared corpus that is damaged or belongs to other settings
├── CheckpointError        a checkpoint that is missing, damaged or foreign
├── NbestError             n-best lists, scores or references that are missing, broken or do not fit
├── TrainingError          a loss that is not finite
├── Pruned                 a trial of a search that was ended early, as others do better
├── SearchError            a search of which no trial comes to a figure
├── ExportError            a model that cannot be exported
├── SweepError             a job of a sweep that failed in a process of its own
├── MissingPackageError    a package that only some commands need and that is not installed
└── OutputError            a disk that is full, a folder that cannot be written
Interrupted                Ctrl-C, after everything worth keeping was kept: exit code 130
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class KorlmError(Exception):
    """A user's mistake or bad data; the message says what, where, the limit and what to do."""


class ConfigError(KorlmError):
    """A setting that is unknown, ill-typed or out of range."""


class CorpusError(KorlmError):
    """Text that is missing, empty, binary, wrongly encoded or too small."""


class TokenizerError(KorlmError):
    """An analyzer that does not start or dies for good."""


class ClusterError(KorlmError):
    """A cluster that cannot be reached, does not fit or loses its workers."""


class VocabError(KorlmError):
    """A vocabulary that cannot be made or read."""


class PreparedError(KorlmError):
    """A prepared corpus that is damaged or belongs to other settings."""


class CheckpointError(KorlmError):
    """A checkpoint that is missing, damaged or foreign."""


class NbestError(KorlmError):
    """N-best lists, scores or references that are missing, broken or do not fit."""


class TrainingError(KorlmError):
    """A loss that is not finite."""


class Pruned(KorlmError):  # noqa: N818 - a search wished it
    """A trial of a search that was ended early, as others do better."""


class SearchError(KorlmError):
    """A search of which no trial comes to a figure."""


class ExportError(KorlmError):
    """A model that cannot be exported."""


class SweepError(KorlmError):
    """A job of a sweep that failed in a process of its own."""


class MissingPackageError(KorlmError):
    """A package that only some commands need and that is not installed."""


class OutputError(KorlmError):
    """A disk that is full, a folder that cannot be written."""


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """Ctrl-C, after everything worth keeping was kept; the message says how to go on."""


# What else the world, rather than a mistake of ours, may have against a file.
_WRITING = {errno.ENOENT, errno.EIO, errno.EFBIG, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL}


class OutputKey:
    """The setting by which the command that runs names the folder it writes to.

    Attributes:
        name: such as ``outputs=FOLDER``; empty for a command that writes no folder.
    """

    name: str = "outputs=FOLDER"


@contextmanager
def writing(
    place: Path, key: str | None = None, again: str = "run the same command again"
) -> Iterator[None]:
    """Turns the failures of writing under ``place`` into an ``OutputError`` of one line.

    Args:
        place: what is named where the system names no file.
        key: the setting that leads to another place; None: that of the command.
        again: what to do when there is room on the disk.
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
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = f"a file stands in the way of the folder: move it{other}"
        elif error.errno not in _WRITING:
            raise
        else:
            reason = f"writing failed ({error.strerror}): mend that{other}"
        raise OutputError(f"{error.filename or place}: {reason}") from error


@contextmanager
def optional(extra: str) -> Iterator[None]:
    """Turns the failure to import a package into one line that names korlm's extra with it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"the package {error.name} is not installed: pip install 'korlm[{extra}]'"
        ) from error


def reason_of(error: BaseException) -> str:
    """Why something failed, in one line; what is no user's mistake is told with its kind."""
    text = str(error) if isinstance(error, KorlmError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
