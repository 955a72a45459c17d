"""Settings and figures that files hold: data to be checked, never anything to be run.

A run, a sweep, an export or a prepared corpus may come from somebody else. What stands in its files
must be plain values under known keys: no interpolation (``${...}`` reads the environment and calls
functions), no key of Hydra (``_target_`` names a function to call) and no name of a group that
leads out of ``conf/``. Whatever reads stored settings calls ``check_settings`` or
``check_override``; what the user types is not checked here.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from pathlib import Path
from typing import Any

import yaml  # OmegaConf reads and writes with it

from korlm import config
from korlm.config.renamed import rename_tree
from korlm.utils.errors import ConfigError, KorlmError

LARGEST = 256 << 20  # bytes of a JSON or YAML file


DEEPEST = 50  # levels of a YAML file; Hydra's own have less than ten


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML has it


_NOT_SETTINGS = ("experiment", "sweep")  # groups that set keys of other groups


_SWEEPER = "hydra.sweeper."


_TYPED = "; if it is yours, type it on the command line again"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file that may be damaged.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds anything else; the message is one line.
    """
    _check_size(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def read_yaml(path: Path) -> Any:
    """Read plain values from a YAML file that may be damaged.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML, nested too deeply or has aliases, which make a short file grow
            beyond all memory; the message is one line.
    """
    _check_size(path)
    text, depth = path.read_text(encoding="utf-8"), 0
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("has an alias, which korlm does not write")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError("nested too deeply")
        return yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error


def _check_size(path: Path) -> None:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST >> 20} MiB")


def check_settings(tree: Any, source: str, kind: type[KorlmError] = ConfigError) -> dict[str, Any]:
    """Return the settings of a file, group -> key -> value, checked and under their current names.

    Args:
        tree: some or all settings of korlm.train.
        source: of the settings, for messages.
        kind: exception to raise.

    Raises:
        KorlmError: of the given kind, for an unknown key or a value that is not plain.
    """
    if not isinstance(tree, dict):
        raise kind(f"{source}: its settings are not a mapping of keys to values")
    known, settings = _known(), rename_tree(tree)
    for group, value in settings.items():
        if group not in known:
            raise kind(f"{source}: its settings are not those of this korlm: {_shown(group)}")
        if not (known[group] and isinstance(value, dict)):
            _check_value(group, value, source, kind)
            continue
        for key, part in value.items():
            if key not in known[group]:
                shown = _shown(f"{group}.{key}")
                raise kind(f"{source}: its settings are not those of this korlm: {shown}")
            _check_value(f"{group}.{key}", part, source, kind)
    return settings


def check_override(override: str, source: str) -> None:
    """Check an override that a file holds, such as ``seed=1,2``, before Hydra is given it.

    Args:
        override: in Hydra's grammar; it may have several values.
        source: of the override, for messages.

    Raises:
        ConfigError: an unknown key, a value that is not plain, or a name that is not one of a file
            of its group.
    """
    # Most processes that open prepared corpora never need the parser.
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep
    from hydra.errors import HydraException

    if re.fullmatch(r"hydra/sweeper=optuna", override) or _sets_search(override):
        return
    try:
        parsed = OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError) as error:
        raise ConfigError(f"{source}: {_shown(override)}: not an override of Hydra") from error
    key, value = parsed.key_or_group, typing.cast(Any, parsed._value)
    group, _, name = key.partition(".")
    is_group = not name and group in (*config.SCHEMAS, *_NOT_SETTINGS)
    known = _known()
    if parsed.package is not None or not (
        is_group or key in known or (name and name in known.get(group, ()))
    ):
        raise ConfigError(
            f"{source}: {_shown(override)}: not a setting of korlm.train; a stored sweep may set "
            "nothing else: type the sweep again"
        )
    if isinstance(value, (RangeSweep, IntervalSweep)) or parsed.is_delete():
        return
    if isinstance(value, Glob) and is_group:  # chooses among the files of the group
        return
    for one in value.list if isinstance(value, ChoiceSweep) else [value]:
        plain = getattr(one, "text", one)  # of a quoted string
        if is_group and plain is not None:
            names = plain if isinstance(plain, list) else [plain]
            if not all(re.fullmatch(r"[\w-]+", str(getattr(n, "text", n))) for n in names):
                raise ConfigError(
                    f"{source}: {_shown(override)}: must name files of conf/{group}, without path "
                    "and ending"
                )
        elif isinstance(plain, list):
            _check_value(key, [getattr(p, "text", p) for p in plain], source, ConfigError, _TYPED)
        else:
            _check_value(key, plain, source, ConfigError, _TYPED)


def _sets_search(override: str) -> bool:
    """Whether an override sets a plain value of a search, and nothing that Hydra would call."""
    key, _, value = override.partition("=")
    kinds = (config.SearchConfig, config.GridConfig)
    names = {f.name for kind in kinds for f in dataclasses.fields(kind)} - {"_target_", "params"}
    name = key.removeprefix(_SWEEPER)
    return key.startswith(_SWEEPER) and name in names and bool(re.fullmatch(r"[\w.]+", value))


def _check_value(
    key: str, value: Any, source: str, kind: type[KorlmError], advice: str = ""
) -> None:
    """Refuse what is neither a plain value nor a list of them."""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str) and "${" in part:
            raise kind(
                f"{source}: {key}={_shown(part)}: a stored setting must be a plain value, without "
                "${...}" + advice
            )
        if not (part is None or isinstance(part, (bool, int, float, str))):
            raise kind(
                f"{source}: {key}={_shown(part)}: a stored setting must be a text, a number or a "
                "list of them" + advice
            )


@functools.cache
def _known() -> dict[str, frozenset[str]]:
    """Return the keys of korlm.train, group -> keys under any choice of it; empty: no group."""
    known: dict[str, frozenset[str]] = {}
    for field in dataclasses.fields(config.TrainSettings):
        schemas = [*config.SCHEMAS.get(field.name, {}).values(), field.default_factory]
        named = (
            f.name for s in schemas if dataclasses.is_dataclass(s) for f in dataclasses.fields(s)
        )
        known[field.name] = frozenset(named)
    return known


def _shown(value: object) -> str:
    """Return a value as a message shows it: one line, not too long, no control characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= 80 else f"{text[:77]}..."
