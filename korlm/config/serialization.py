"""Convert settings between three forms: a tree of Hydra, objects of classes, and plain values.

A command composes a tree, which becomes an object (``to_settings``). Checkpoints hold plain dicts
(``plain_settings``), which become an object again (``settings_from_plain``).
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korlm import config
from korlm.config import registry
from korlm.config.error_messages import format_config_error
from korlm.config.metrics import LANGUAGE_MODELING
from korlm.config.stored import check_settings, values_of
from korlm.utils.errors import ConfigError


def to_settings(tree: DictConfig) -> Any:
    """Convert Hydra's tree to the settings class of the command, and check the settings.

    Raises:
        ConfigError: a setting is missing, unknown or wrong.
        OmegaConfBaseException: a value has the wrong type.
    """
    missing = sorted(OmegaConf.missing_keys(tree))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=VALUE")
    settings = OmegaConf.to_object(tree)
    _refuse_added_keys(settings)
    return settings


def _refuse_added_keys(settings: Any, prefix: str = "") -> None:
    """Raise an error for keys added by ``+group.key=value``, which Hydra does not check."""
    fields = {field.name for field in dataclasses.fields(settings)}
    for key, value in vars(settings).items():
        if key not in fields:
            raise ConfigError(f"{prefix}{key}: there is no such setting; --help lists the keys")
        if dataclasses.is_dataclass(value):
            _refuse_added_keys(value, f"{prefix}{key}.")


def settings_from_plain(
    plain: dict[str, Any], overrides: Sequence[str] = ()
) -> config.TrainSettings:
    """Return the settings in a checkpoint, with overrides applied.

    Raises:
        ConfigError: a key is unknown, or a value is wrong or not plain.
    """
    plain = check_settings(plain, "stored settings")
    plain.setdefault("task", {"name": LANGUAGE_MODELING})  # runs of korlm 0.1 have no other
    try:
        tree = OmegaConf.structured(config.TrainSettings)
        for group in filter(None, registry.groups()):
            schema = _schema_of(group, plain.get(group, {}))
            if schema is not None:
                tree[group] = OmegaConf.structured(schema)
        tree = OmegaConf.merge(tree, plain)
        for key, value in values_of(overrides).items():
            OmegaConf.update(tree, key, value)
        return typing.cast(config.TrainSettings, to_settings(typing.cast(DictConfig, tree)))
    except OmegaConfBaseException as error:
        raise ConfigError(format_config_error(error)) from error


def _schema_of(group: str, plain: Any) -> type[Any] | None:
    """Return the dataclass of a group's stored settings, by their ``name`` or else their keys.

    Of several classes that have all of the keys, it is the smallest one. None: there is none.
    """
    schemas = registry.schemas(group)
    if not isinstance(plain, dict):
        return None
    if group in registry.NAMED and "name" in plain:
        return schemas[plain["name"]]
    names = {name: {f.name for f in dataclasses.fields(schemas[name])} for name in schemas}
    fitting = [(len(fields), name) for name, fields in names.items() if plain.keys() <= fields]
    return schemas[min(fitting)[1]] if fitting else None


def plain_settings(settings: config.TrainSettings) -> dict[str, Any]:
    """Return settings as plain dicts, lists, strings and numbers, for checkpoints.

    The options of a cluster are omitted: no run uses them after its corpus is prepared, and they
    may name accounts.
    """
    tree = OmegaConf.to_container(OmegaConf.structured(settings), resolve=True, enum_to_str=True)
    plain = typing.cast(dict[str, Any], tree)
    del plain["prepare"]["options"]
    return plain


def dotted_items(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of nested settings, joined by dots, with their values.

    >>> dict(dotted_items({"model": {"name": "lstm"}, "seed": 1}))
    {'model.name': 'lstm', 'seed': 1}
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from dotted_items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def as_typed(value: Any) -> str:
    """Return a value as it is typed on the command line.

    >>> as_typed(True), as_typed(None), as_typed([1, "a"])
    ('true', 'null', '[1,a]')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    return str(value)
