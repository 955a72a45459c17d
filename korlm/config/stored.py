"""Read and check settings and metrics in files that may be damaged or malicious.

A run, a sweep, an export or a prepared corpus may come from somebody else. Its files must contain
plain values under known keys: no interpolation (``${...}`` reads the environment and calls
functions), no key of Hydra (``_target_`` names a function to call) and no group choice outside
``conf/``. All code that builds settings or commands from files calls ``check_settings`` or
``check_override``. Settings typed on the command line are trusted.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml  # used by OmegaConf

from korlm import config
from korlm.config import registry
from korlm.config.keys import iter_keys, rename_tree
from korlm.utils.errors import ConfigError, KorlmError

MAX_BYTES = 256 << 20  # largest JSON or YAML file that is read

MAX_DEPTH = 50  # deepest nesting of a YAML file; those of Hydra have less than ten levels

MAX_VALUES = 100_000  # most values of a range in a stored sweep

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML has it

_NOT_SETTINGS = ("experiment", "sweep")  # groups that have no keys, but set those of other groups

_SWEEPER = "hydra.sweeper."

_TYPE_AGAIN = "; if it is yours, type it on the command line again"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file that may be damaged.

    Raises:
        OSError: the file cannot be read.
        ValueError: its content is not a JSON object, or too large; the message is one line.
    """
    _check_size(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def read_yaml(path: Path) -> Any:
    """Read plain values from a YAML file that may be damaged.

    Raises:
        OSError: the file cannot be read.
        ValueError: its content is not YAML, too large, nested too deeply, or has tags (``!!int``)
            or aliases, by which a short file can fill the memory; the message is one line.
    """
    _check_size(path)
    text, depth = path.read_text(encoding="utf-8"), 0
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("has an alias")
            if getattr(event, "tag", None) is not None:  # its value may be of another type
                raise ValueError("has a tag")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError("nested too deeply")
        return yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")


# Keys of the group prepare that runs store, but do not use: how a corpus was prepared is no
# property of a run. Until korlm 0.1, those after the first were keys of their own.
_IGNORED_OF_PREPARE = {"options", "queue", "account", "walltime", "interface", "sbatch"}


def check_settings(tree: Any, source: str, kind: type[KorlmError] = ConfigError) -> dict[str, Any]:
    """Check the settings in a file, and return them with their current names.

    Raises:
        KorlmError: an error of the given kind: a key is unknown, a group has no keys, or a value
            is not plain.
    """
    if not isinstance(tree, dict):
        raise kind(f"{source}: its settings are not a mapping of keys to values")
    try:
        settings = rename_tree(tree)
    except RecursionError:
        raise kind(f"{source}: its settings are nested too deeply") from None
    if isinstance(prepare := settings.get("prepare"), dict):
        settings["prepare"] = {k: v for k, v in prepare.items() if k not in _IGNORED_OF_PREPARE}
    for group in registry.NAMED:
        _check_registered(group, settings, source, kind)
    known_keys = _known_keys()
    for group, value in settings.items():
        if group not in known_keys:
            raise kind(f"{source}: {_unknown(group)}")
        if not known_keys[group]:
            _check_value(group, value, source, kind)
            continue
        if not isinstance(value, dict):
            raise kind(f"{source}: {group}={_shown(value)}: must be a mapping of keys to values")
        for key, part in value.items():
            if key not in known_keys[group]:
                raise kind(f"{source}: {_unknown(f'{group}.{key}')}")
            _check_value(f"{group}.{key}", part, source, kind)
    return settings


def _unknown(key: object) -> str:
    return f"unknown setting {_shown(key)}; written by another version of korlm, or damaged"


def check_override(override: str, source: str) -> None:
    """Check an override in a file, such as ``seed=1,2``, before it is passed to Hydra.

    Raises:
        ConfigError: the key is unknown, a value is not plain, the choice of a group is not the
            name of a file, or a range has too many values.
    """
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep

    if override == "hydra/sweeper=optuna" or _sets_search(override):
        return
    try:
        parsed = _parse_override(override)
    except ValueError as error:
        raise ConfigError(f"{source}: {_shown(override)}: {error}") from error
    key, value = parsed.key_or_group, typing.cast(Any, parsed._value)
    if key == "imports":
        raise ConfigError(
            f"{source}: {_shown(override)}: modules are imported if they are typed, not because "
            "of a file: type it on the command line again"
        )
    group, _, name = key.partition(".")
    is_group = not name and group in (*registry.groups(), *_NOT_SETTINGS)
    known_keys = _known_keys()
    if parsed.package is not None or not (
        is_group or key in known_keys or (name and name in known_keys.get(group, ()))
    ):
        raise ConfigError(
            f"{source}: {_shown(override)}: not a setting of korlm.train; a stored sweep may set "
            "nothing else: type the sweep again"
        )
    if isinstance(value, RangeSweep) and not _is_short(value):
        raise ConfigError(f"{source}: {_shown(override)}: has more than {MAX_VALUES:,} values")
    if isinstance(value, (RangeSweep, IntervalSweep)) or parsed.is_delete():
        return
    if isinstance(value, Glob) and is_group:  # chooses among the files of the group
        return
    for one in value.list if isinstance(value, ChoiceSweep) else [value]:
        plain = getattr(one, "text", one)  # the string within quotes
        if is_group and plain is not None:
            names = plain if isinstance(plain, list) else [plain]
            if not all(re.fullmatch(r"[\w-]+", str(getattr(n, "text", n))) for n in names):
                raise ConfigError(
                    f"{source}: {_shown(override)}: must name files of conf/{group}, without path "
                    "and ending"
                )
        elif isinstance(plain, list):
            plain = [getattr(part, "text", part) for part in plain]
            _check_value(key, plain, source, ConfigError, _TYPE_AGAIN)
        else:
            _check_value(key, plain, source, ConfigError, _TYPE_AGAIN)


def values_of(overrides: Iterable[str]) -> dict[str, Any]:
    """Return key -> value of overrides in Hydra's grammar; numbers have the type of their setting.

    Choices of groups and deletions have no value.

    Raises:
        ValueError: an override does not follow the grammar, or a number is too large.

    >>> values_of(["+optimizer.lr=1", "seed=2", "model=gru", "~name"])
    {'optimizer.lr': 1.0, 'seed': 2}
    """
    floats = {key for key, field in iter_keys("train") if str(field.type).startswith("float")}
    values: dict[str, Any] = {}
    for parsed in map(_parse_override, overrides):
        key = parsed.key_or_group
        if not parsed.is_delete() and key not in (*registry.groups(), *_NOT_SETTINGS):
            value = parsed.value()
            try:
                values[key] = float(value) if isinstance(value, int) and key in floats else value
            except OverflowError:
                raise ValueError(f"{key}: too large a number") from None
    return values


def _parse_override(override: str) -> Any:
    """Return Hydra's form of an override in a file."""
    # Imported here, since most processes that read settings do not need the parser.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError) as error:
        raise ValueError("not an override of Hydra") from error


def _is_short(values: Any) -> bool:
    """Return whether a ``RangeSweep`` has at most ``MAX_VALUES`` values."""
    try:
        return bool(abs(values.stop - values.start) <= MAX_VALUES * abs(values.step))
    except OverflowError:
        return False


def _sets_search(override: str) -> bool:
    """Return True if an override sets a search setting other than ``_target_`` to a plain value."""
    key, _, value = override.partition("=")
    kinds = (config.SearchConfig, config.GridConfig)
    names = {f.name for kind in kinds for f in dataclasses.fields(kind)} - {"_target_", "params"}
    name = key.removeprefix(_SWEEPER)
    return key.startswith(_SWEEPER) and name in names and bool(re.fullmatch(r"[\w.]+", value))


def _check_registered(
    group: str, tree: dict[str, Any], source: str, kind: type[KorlmError]
) -> None:
    """Raise an error if stored settings choose a model, tokenizer, ... that is not registered.

    The message names the modules that the settings list under ``imports``. They are not imported:
    the settings are not trusted.
    """
    settings = tree.get(group)
    if not isinstance(settings, dict) or "name" not in settings:
        return
    name = settings["name"]
    if isinstance(name, str) and name in registry.schemas(group):
        return
    _check_value(f"{group}.name", name, source, kind)
    stored = tree.get("imports")
    modules = stored if isinstance(stored, list) and stored else ["MODULE"]
    raise kind(
        f"{source}: {group}={_shown(name)} is not registered: add "
        f"imports={_shown('[' + ','.join(map(str, modules)) + ']')} (in Python: import it first), "
        "if you trust that code"
    )


def _check_value(
    key: str, value: Any, source: str, kind: type[KorlmError], advice: str = ""
) -> None:
    """Raise an error unless a value is plain or a list of plain values."""
    for part in value if isinstance(value, list) else [value]:
        if part == "???":  # OmegaConf's mark of a missing value
            raise kind(f"{source}: {key}=???: a stored setting must have a value" + advice)
        if isinstance(part, str) and "${" in part:
            raise kind(
                f"{source}: {key}={_shown(part)}: a stored setting must be a plain value, without "
                "${...}" + advice
            )
        if isinstance(part, int) and not -(2**63) <= part < 2**63:  # too many digits to show
            raise kind(f"{source}: {key}: is an integer of more than 64 bits" + advice)
        if not (part is None or isinstance(part, (bool, int, float, str))):
            raise kind(
                f"{source}: {key}={_shown(part)}: a stored setting must be a text, a number or a "
                "list of them" + advice
            )


def _known_keys() -> dict[str, set[str]]:
    """Return the keys of korlm.train: group -> keys of all choices; key outside groups -> empty."""
    known: dict[str, set[str]] = {}
    for key, _ in iter_keys("train"):
        group, _, name = key.partition(".")
        known.setdefault(group, set()).update([name] if name else [])
    return known


def _shown(value: object) -> str:
    """Return a value for a message: one short line without control characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 80 else f"{text[:77]}..."
