"""Read JSON: JSON lines, arrays of objects, and nested objects.

A key such as ``data.doc.text`` is a path through objects; where it leads to a list, it goes on in
all of its items. In JSON lines each line is a record. In other JSON the items of the outermost list
on the path are the records; without a list, the whole file is one record. All texts of a record, in
order, are one document: the paragraphs of an article stay together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from korlm.config import TextConfig
from korlm.corpus.records import Line, Notes, Record, to_record
from korlm.text.unicode import replace_lone_surrogates
from korlm.utils.errors import CorpusError

_MISSING = object()
_NUM_PATHS = 8  # number of key paths in a message
_BLANK = re.compile(r"[ \t\n\r\ufeff]*")

# (name for messages, value of the record, path from the record to its texts, path from the root of
# the file to the list of records).
_Record = tuple[str, Any, list[str], list[str]]


def read_json_lines(
    path: Path, lines: Iterable[Line], config: TextConfig, notes: Notes
) -> Iterator[Record]:
    """Yield the records of JSON lines.

    Raises:
        CorpusError: a line is not JSON or has no text.
    """
    return _texts(_parse_lines(path, lines, config.text_column), path, config, notes)


def read_json(path: Path, text: str, config: TextConfig, notes: Notes) -> Iterator[Record]:
    """Yield the records of a JSON file, which is held in memory.

    If the file has several values one after the other, each is a record, as in JSON lines.

    Raises:
        CorpusError: the file is not JSON, or a record has no text.
    """
    values = _parse(path, text)
    keys = config.text_column.split(".")
    records: Iterable[_Record] = _records(values[0], keys)
    if len(values) > 1:
        records = ((f"value {n}", value, keys, []) for n, value in enumerate(values, 1))
    return _texts(records, path, config, notes)


def read_keys(path: Path, lines: Iterable[Line] | str, config: TextConfig) -> list[str]:
    """Return the other keys of the first record than that of the text, without objects and lists.

    ``lines`` are those of JSON lines, or the text of another JSON file.

    Raises:
        CorpusError: the file is not JSON.
    """
    keys = config.text_column.split(".")
    if isinstance(lines, str):
        records: Iterable[_Record] = _records(_parse(path, lines)[0], keys)
    else:
        records = _parse_lines(path, lines, config.text_column)
    for _, record, rest, _ in records:
        values = record if isinstance(record, dict) else {}
        plain = [key for key, value in values.items() if not isinstance(value, dict | list)]
        return [key for key in plain if key != ".".join(rest)]
    return []


def _parse_lines(path: Path, lines: Iterable[Line], key: str) -> Iterator[_Record]:
    for number, line in lines:
        line = line.removeprefix("\ufeff")  # the byte-order mark of a concatenated file
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
                f"{path}: line {number} has no text under {key!r} (it has list); a file that is "
                "one array is read with corpus.format=json"
            )
        yield f"line {number}", value, key.split("."), []


def _parse(path: Path, text: str) -> list[Any]:
    """Return the JSON values of a text, usually one."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    end = _BLANK.match(text).end()  # type: ignore[union-attr]
    try:
        while end < len(text) or not values:
            value, end = decoder.raw_decode(text, end)
            values.append(value)
            end = _BLANK.match(text, end).end()  # type: ignore[union-attr]
    except json.JSONDecodeError as error:
        raise CorpusError(
            f"{path}: line {error.lineno}, column {error.colno} is not JSON ({error.msg}); "
            "correct it, or give corpus.format=txt to read the file as plain text"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{path}: not JSON that can be read ({error})") from None
    return values


def _records(root: Any, keys: list[str]) -> Iterator[_Record]:
    """Yield the items of the outermost list on a path, or the whole value if there is none."""
    node, rest, parents = root, keys, list[str]()
    while not isinstance(node, list):
        key, next_rest = _step(node, rest)
        if key is None:
            yield "", root, keys, []
            return
        node, rest = node[key], next_rest
        parents.append(key)
    for number, item in enumerate(node, 1):
        yield f"record {number}", item, rest, parents


def _step(node: Any, keys: list[str]) -> tuple[str | None, list[str]]:
    """Return the first key of a path in an object, and the rest of the path.

    A key may contain dots; the longest one is taken. None: the object has no such key.
    """
    if isinstance(node, dict):
        for size in range(len(keys), 0, -1):
            if (key := ".".join(keys[:size])) in node:
                return key, keys[size:]
    return None, keys


def _leaves(node: Any, keys: list[str]) -> Iterator[Any]:
    """Yield the values at the end of a path, ``_MISSING`` for a missing key."""
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


def _texts(
    records: Iterable[_Record], path: Path, config: TextConfig, notes: Notes
) -> Iterator[Record]:
    """Yield records of the corpus; where one has no text, raise an error or skip it."""
    first_error: CorpusError | None = None
    num_read = 0
    for name, record, keys, parents in records:
        location = f"{path}: {name}" if name else str(path)
        texts = []
        for value in _leaves(record, keys):
            if isinstance(value, str):
                texts.append(replace_lone_surrogates(value))  # JSON can escape one
                continue
            error = _no_text(location, record, parents, value, config.text_column)
            if not config.skip_without_text:
                raise error
            first_error = first_error or error
            notes.add(
                f"values under {config.text_column!r} that are not text and are left out",
                f"{path}, {name}" if name else str(path),
            )
        if texts:
            num_read += 1
            cells = [_cell(location, record, parents, config, *c) for c in config.columns[1:]]
            yield to_record(config, ["\n".join(texts), *cells])
    if first_error is not None and not num_read:
        raise first_error


def _cell(
    location: str, record: Any, parents: list[str], config: TextConfig, setting: str, key: str
) -> str:
    """Return the value of a record under the key of a setting, as text.

    The name of a document must be a string or an integer, a label may also be a boolean or a list,
    a kept value may be anything. The path of the key begins at the record or at the root.
    """
    keys = key.split(".")
    if parents and keys[: len(parents)] == parents:
        keys = keys[len(parents) :]
    values = list(_leaves(record, keys))
    value = values[0] if len(values) == 1 else values
    is_kept = setting == "keep_columns"
    if is_kept and (value is None or (config.kept_is_optional and _MISSING in values)):
        return ""
    if is_kept:
        is_valid = bool(values) and _MISSING not in values
    elif setting == "label_column":
        is_valid = len(values) == 1 and isinstance(value, str | int | list)  # a list of spans
    else:
        is_valid = isinstance(value, str | int) and not isinstance(value, bool)
    if is_valid:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return replace_lone_surrogates(text)
    actual = _describe(value) if len(values) == 1 else f"{len(values)} values"
    expected = "" if is_kept else ", not one string or integer"
    raise CorpusError(
        f"{location} has {actual} under {key!r}{expected}"
        f"{_describe_keys(record, parents)}; give corpus.{setting}=KEY"
    )


def _no_text(location: str, record: Any, parents: list[str], value: Any, key: str) -> CorpusError:
    if value is _MISSING:
        paths = list(_string_paths(record, parents))
        example = max(paths, key=paths.count) if paths else "KEY"
        return CorpusError(
            f"{location} has no text under {key!r}{_describe_keys(record, parents)}; give a path "
            f"of keys such as corpus.text_column={example}, or leave out such records with "
            "corpus.skip_without_text=true"
        )
    return CorpusError(
        f"{location} has {_describe(value)} under {key!r}, not a string; correct it, or leave out "
        "such values with corpus.skip_without_text=true"
    )


def _describe(value: Any) -> str:
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


def _describe_keys(record: Any, parents: list[str]) -> str:
    """Return the paths to strings in a record, for a message."""
    if not isinstance(record, dict | list):
        return f" (it has {type(record).__name__})"
    paths = list(dict.fromkeys(_string_paths(record, parents)))
    if not paths and isinstance(record, dict):
        paths = [".".join([*parents, key]) for key in record]
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
