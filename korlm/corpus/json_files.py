"""JSON -> texts with their documents: JSON lines, arrays of objects, and nested objects.

A key such as ``data.doc.text`` is a path through objects; lists on the way are walked through. In
JSON lines each line is a record. In other JSON each item of the outermost list on the path is one,
or the whole file where there is no list. All texts of a record, in order, are one document: the
paragraphs of an article stay together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from korlm.corpus.notes import Notes
from korlm.text.unicode import _SURROGATE
from korlm.utils.errors import CorpusError

_MISSING = object()


_NUM_PATHS = 8  # key paths named in a message


_BLANK = re.compile(r"[ \t\n\r\ufeff]*")


@dataclass(frozen=True)
class JsonKeys:
    """Which values of a JSON file are read.

    Attributes:
        text: path of keys to the text.
        document: path of keys to what tells documents apart; empty: each record is a document.
        skip: leave out values under ``text`` that are no strings, instead of refusing the file.
    """

    text: str
    document: str = ""
    skip: bool = False


def read_json_lines(
    path: Path, lines: Iterable[str], keys: JsonKeys, notes: Notes
) -> Iterator[tuple[str, str]]:
    """Read the records of JSON lines as (text, document).

    Raises:
        CorpusError: a line is not JSON or has no text.
    """
    return _checked(_parsed_lines(path, lines, keys.text), path, keys, notes)


def read_json(path: Path, text: str, keys: JsonKeys, notes: Notes) -> Iterator[tuple[str, str]]:
    """Read the records of a JSON file as (text, document); memory holds the whole file.

    Several values that follow each other are read as JSON lines are.

    Raises:
        CorpusError: the file is not JSON, or a record has no text.
    """
    values = _parsed(path, text)
    if len(values) > 1:
        found = enumerate(values, 1)
        wanted = keys.text.split(".")
        several = ((f"value {n}", value, wanted, list[str]()) for n, value in found)
        return _checked(several, path, keys, notes)
    return _checked(_records(values[0], keys.text.split(".")), path, keys, notes)


# Where a record stands, the record, the keys from there to the text, and those that led there.
_Record = tuple[str, Any, list[str], list[str]]


def _parsed_lines(path: Path, lines: Iterable[str], wanted: str) -> Iterator[_Record]:
    for number, line in enumerate(lines, 1):
        line = line.removeprefix("\ufeff")  # of files that were put together
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(
                f"{path}: line {number} is not JSON ({error}); a file that is one array or object "
                "is read with corpus.format=json"
            ) from None
        if isinstance(value, list):
            raise CorpusError(
                f"{path}: line {number} has no text under {wanted!r} (it has list); a file that is "
                "one array is read with corpus.format=json"
            )
        yield f"line {number}", value, wanted.split("."), []


def _parsed(path: Path, text: str) -> list[Any]:
    """All JSON values of a text, which are one as a rule."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    at = _BLANK.match(text).end()  # type: ignore[union-attr]
    try:
        while at < len(text) or not values:
            value, at = decoder.raw_decode(text, at)
            values.append(value)
            at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{path}: line {error.lineno}, column {error.colno} is not JSON ({error.msg}); mend "
            "it, or give corpus.format=txt to read the file as plain text"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: is not JSON that can be read ({error})") from None
    return values


def _records(root: Any, keys: list[str]) -> Iterator[_Record]:
    """The items of the outermost list on a path; the whole value where there is none."""
    node, rest, done = root, keys, list[str]()
    while not isinstance(node, list):
        key, after = _step(node, rest)
        if key is None:
            yield "", root, keys, []
            return
        node, rest = node[key], after
        done.append(key)
    for number, item in enumerate(node, 1):
        yield f"record {number}", item, rest, done


def _step(node: Any, keys: list[str]) -> tuple[str | None, list[str]]:
    """The first key of a path that an object has, and the keys behind it; keys may hold dots."""
    if isinstance(node, dict):
        for size in range(len(keys), 0, -1):
            if (key := ".".join(keys[:size])) in node:
                return key, keys[size:]
    return None, keys


def _leaves(node: Any, keys: list[str]) -> Iterator[Any]:
    """The values at the end of a path; ``_MISSING`` where it breaks off."""
    if not keys:
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _leaves(item, keys)
    else:
        key, rest = _step(node, keys)
        if key is None:
            yield _MISSING
        else:
            yield from _leaves(node[key], rest)


def _checked(
    records: Iterable[_Record], path: Path, keys: JsonKeys, notes: Notes
) -> Iterator[tuple[str, str]]:
    first_error: CorpusError | None = None
    num_read = 0
    for where, record, rest, done in records:
        texts = []
        for leaf in _leaves(record, rest):
            if isinstance(leaf, str):
                # JSON can spell half a surrogate pair, which no UTF-8 file can hold.
                texts.append(_SURROGATE.sub("\ufffd", leaf))
                continue
            error = _error(path, where, record, done, leaf, keys.text)
            if not keys.skip:
                raise error
            first_error = first_error or error
            notes.add(
                f"values under {keys.text!r} that are no text and are left out",
                f"{path}, {where}" if where else str(path),
            )
        if texts:
            num_read += 1
            yield "\n".join(texts), _document(path, where, record, done, keys.document)
    if first_error is not None and not num_read:
        raise first_error


def _document(path: Path, where: str, record: Any, done: list[str], wanted: str) -> str:
    if not wanted:
        return ""
    keys = wanted.split(".")
    if done and keys[: len(done)] == done:
        keys = keys[len(done) :]
    found = list(_leaves(record, keys))
    if len(found) == 1 and isinstance(found[0], str | int) and not isinstance(found[0], bool):
        return _SURROGATE.sub("\ufffd", str(found[0]))
    place = f"{path}: {where}" if where else str(path)
    what = _kind(found[0]) if len(found) == 1 else f"{len(found)} values"
    raise CorpusError(
        f"{place} has {what} under {wanted!r}, not one string or integer"
        f"{_has(record, done)}; give corpus.document_column=KEY"
    )


def _error(
    path: Path, where: str, record: Any, done: list[str], leaf: Any, wanted: str
) -> CorpusError:
    place = f"{path}: {where}" if where else str(path)
    if leaf is _MISSING:
        paths = list(_string_paths(record, done))
        example = max(paths, key=paths.count) if paths else "KEY"
        return CorpusError(
            f"{place} has no text under {wanted!r}{_has(record, done)}; give a path of keys "
            f"such as corpus.text_column={example}, or leave out such records with "
            "corpus.skip_without_text=true"
        )
    return CorpusError(
        f"{place} has {_kind(leaf)} under {wanted!r}, not a string; mend it, or leave out such "
        "values with corpus.skip_without_text=true"
    )


def _kind(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{value}".lower()
    if isinstance(value, int | float):
        return f"the number {value:.6g}" if abs(value) < 1e15 else "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def _has(record: Any, done: list[str]) -> str:
    """The paths to strings in a record, for a message."""
    if not isinstance(record, dict | list):
        return f" (it has {type(record).__name__})"
    paths = list(dict.fromkeys(_string_paths(record, done)))
    if not paths and isinstance(record, dict):
        paths = [".".join([*done, key]) for key in record]
    shown = ", ".join(paths[:_NUM_PATHS]) + ", ..." * (len(paths) > _NUM_PATHS)
    return f" (it has {shown or type(record).__name__})"


def _string_paths(node: Any, keys: list[str], depth: int = 0) -> Iterator[str]:
    if isinstance(node, str) and keys:
        yield ".".join(keys)
    elif isinstance(node, dict) and depth < 20:
        for key, value in list(node.items())[:50]:
            yield from _string_paths(value, [*keys, key], depth + 1)
    elif isinstance(node, list) and depth < 20:
        for item in node[:3]:
            yield from _string_paths(item, keys, depth + 1)
