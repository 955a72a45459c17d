"""Parse paths in settings: quotes, lists, the home folder, and the run that a path belongs to.

A setting that holds a path is declared by ``setting(..., is_path=True)``. Its value on the command
line is parsed here instead of by Hydra's grammar: everything after the equal sign is the path,
including blanks, commas and signs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from korlm.utils.errors import ConfigError

CHECKPOINTS = "checkpoints"

EXPORTED = "model.safetensors"

LATEST = Path("latest")  # given instead of a run directory, it stands for the newest run

_DATE = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]_"  # glob of the beginning of a run's name

# Strings that need no quotes in Hydra's grammar, except those of other types.
_PLAIN = re.compile(r"(?:[\w./:@%+*?-]|\$\{[\w.:/%-]*\})+", re.ASCII)
_OTHER_TYPES = re.compile(r"null|true|false", re.IGNORECASE)

# A quoted text in Hydra's grammar; groups: the text between single, and between double quotes.
QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)

# Functions of Hydra's grammar, which yield the values of a sweep.
_CHOICE = re.compile(r"(choice|shuffle|sort|tag)\(.*\)", re.DOTALL)


def path_of(value: object, key: str) -> Path:
    """Return a path that a caller in Python gives."""
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{key}={value!r:.80}: must be a path")
    return Path(value)


def expand_home(path: str, key: str) -> str:
    """Return a path with ``~`` and ``~user`` replaced by the home folder.

    Raises:
        ConfigError: there is no such home folder.
    """
    expanded = os.path.expanduser(path) if path.startswith("~") else path
    if expanded.startswith("~"):
        raise ConfigError(
            f"{key}={path}: there is no home folder {Path(path).parts[0]}; for a file or folder "
            f"of this name write ./{path}"
        )
    return expanded


def expand_paths(value: Any, key: str) -> Any:
    """Return a path, or a list of paths, as ``expand_home`` does; other values unchanged."""
    if isinstance(value, list | tuple):
        return [expand_paths(part, key) for part in value]
    return expand_home(os.fspath(value), key) if isinstance(value, str | os.PathLike) else value


def run_directory(path: Path) -> Path:
    """Return the run directory or export that a path belongs to.

    Args:
        path: a run directory, its ``checkpoints`` folder or a file in that, an export or a file in
            it, or ``latest`` for the newest run. Any other path is returned unchanged.

    Raises:
        ConfigError: the path is ``latest``, but there is no run yet, or it cannot be looked up, as
            a name longer than the file system allows.
    """
    if path == LATEST and not path.exists():
        return latest_run()
    try:
        path.exists()  # all methods of paths below raise the same errors
    except OSError as error:
        raise ConfigError(
            f"{path!s:.80}: cannot be read ({error.strerror}); give a run directory, such as "
            "outputs/runs/<date>_<time>"
        ) from error
    if path.is_file():
        if path.parent.name == CHECKPOINTS and path.suffix == ".pt":
            return path.parent.parent
        if (path.parent / EXPORTED).is_file():
            return path.parent
    elif path.name == CHECKPOINTS and any(path.glob("*.pt")):
        return path.parent
    return path


def latest_run() -> Path:
    """Return the run in outputs/runs with the latest date in its name."""
    pattern = f"outputs/runs/{_DATE}*/{CHECKPOINTS}/*.pt"
    runs = {path.parent.parent for path in Path().glob(pattern)}
    if not runs:
        raise ConfigError(
            "latest: outputs/runs has no run with a date in its name and a checkpoint; train one, "
            "or give its directory"
        )
    return max(runs)


def mend_prepared(folder: Path) -> str:
    """Return advice about a damaged prepared corpus.

    It recommends to delete the folder only if its name and files are those of a prepared corpus,
    since ``prepared=`` may name any folder by mistake.
    """
    is_ours = re.search(r"-[0-9a-f]{12}$", folder.name) and (
        (folder / "manifest.json").is_file() or (folder / "tokens").is_dir()
    )
    if is_ours:
        return f"delete the folder {folder} and run the same command again"
    return "name a prepared corpus, such as outputs/prepared/NAME, or prepare the text again"


def quote_string(text: str) -> str:
    r"""Quote a string for Hydra's grammar; interpolations are kept.

    A backslash escapes only a quote and, at the end of the string, a backslash.

    >>> print(quote_string("it's, mine"))
    'it\'s, mine'
    """
    text = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    return "'" + re.sub(r"\\+\Z", lambda match: match[0] * 2, text) + "'"


def quote_path(path: Path) -> str:
    r"""Return a path in Hydra's grammar, quoted if it must be.

    >>> print(quote_path(Path("runs/a")), quote_path(Path("kim's")))
    runs/a 'kim\'s'
    """
    return str(path) if _is_plain(str(path)) else quote_string(str(path))


def split_outside_quotes(text: str, nested: bool = False) -> list[str]:
    """Split a text at its commas, except those within quotes and, if ``nested``, in brackets."""
    parts, begin, at, depth = [], 0, 0, 0  # depth: number of open brackets
    while at < len(text):
        starts_item = not text[begin:at].strip() or (nested and text[at - 1] in "[,")
        quoted = QUOTED.match(text, at) if starts_item else None
        if quoted:
            at = quoted.end()
            continue
        if nested and text[at] in "[]":
            depth += 1 if text[at] == "[" else -1
        if text[at] == "," and depth <= 0:
            parts.append(text[begin:at])
            begin = at + 1
        at += 1
    return [part.strip() for part in [*parts, text[begin:]]]


def path_value(typed: str, key: str, is_list: bool = False, sweeps: bool = False) -> str:
    """Return the value of a path setting in Hydra's grammar.

    Quotes around a whole path are optional. ``null`` and ``${...}`` keep their meaning.

    Args:
        typed: everything after the equal sign.
        key: the setting, for messages.
        is_list: whether the setting is a list; a single path becomes a list of one.
        sweeps: whether commas outside quotes and brackets separate the values of a sweep.

    >>> path_value("my text, 2nd.txt", "corpus.files", is_list=True)
    "['my text, 2nd.txt']"
    >>> path_value("[a.txt, 'b, c.txt']", "corpus.files", is_list=True)
    "[a.txt,'b, c.txt']"
    """
    typed = typed.strip()
    if sweeps:
        if _CHOICE.fullmatch(typed):
            return typed
        choices = split_outside_quotes(typed, nested=True)
        if len(choices) > 1:
            return ",".join(path_value(choice, key, is_list) for choice in choices)
    if typed.lower() == "null":
        return typed
    if not is_list:
        return _one_path(typed, key)
    if typed.startswith("[") and typed.endswith("]"):
        items = split_outside_quotes(typed[1:-1]) if typed[1:-1].strip() else []
        return "[" + ",".join(_one_path(item, key) for item in items) + "]"
    return f"[{_one_path(typed, key)}]"


def _one_path(typed: str, key: str) -> str:
    """Return a single path, quoted or not, in Hydra's grammar."""
    quoted = QUOTED.fullmatch(typed)
    path = typed if quoted is None else _unquote(quoted)
    if not path.strip():
        raise ConfigError(f"{key}={typed}: is empty; name a file or folder, or leave {key} out")
    path = expand_home(path, key)
    if path == typed and _is_plain(path):
        return path
    return quote_string(path)


def _unquote(quoted: re.Match[str]) -> str:
    """Return the string within quotes, as Hydra parses it."""
    text, quote = quoted.group()[1:-1], quoted.group()[0]
    text = re.sub(rf"(\\+){quote}", lambda match: match[1][: len(match[1]) // 2] + quote, text)
    return re.sub(r"\\+\Z", lambda match: match[0][: len(match[0]) // 2], text)


def _is_plain(path: str) -> bool:
    """Return True if Hydra parses a path without quotes as the same string."""
    if not _PLAIN.fullmatch(path) or _OTHER_TYPES.fullmatch(path):
        return False
    try:
        float(path)
    except ValueError:
        return True
    return False
