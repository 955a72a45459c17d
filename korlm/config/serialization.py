"""Settings: Hydra's tree or a checkpoint's plain values -> the dataclasses of korlm.config."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korlm import config
from korlm.config.error_messages import format_config_error
from korlm.config.paths import expand_home
from korlm.config.stored import check_settings
from korlm.config.validation import path_kinds
from korlm.utils.errors import ConfigError


def to_settings(tree: DictConfig) -> Any:
    """Turns Hydra's tree into the dataclasses of ``korlm.config``, all checks done."""
    missing = sorted(OmegaConf.missing_keys(tree))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=VALUE")
    _expand_paths(tree)
    settings = OmegaConf.to_object(tree)
    _refuse_added_keys(settings)
    return settings


def _expand_paths(tree: DictConfig, prefix: str = "") -> None:
    """Replace ``~`` in every path of the settings, wherever it was written."""
    schema = OmegaConf.get_type(tree)
    kinds = path_kinds(schema) if dataclasses.is_dataclass(schema) else {}
    for key in map(str, tree):
        value, name = tree[key], f"{prefix}{key}"
        if isinstance(value, DictConfig):
            _expand_paths(value, f"{name}.")
        elif key in kinds and isinstance(value, str):
            tree[key] = expand_home(value, name)
        elif key in kinds and OmegaConf.is_list(value):
            tree[key] = [expand_home(v, name) if isinstance(v, str) else v for v in value]


def _refuse_added_keys(settings: Any, prefix: str = "") -> None:
    """``+group.key=value`` slips past the schemas: Hydra adds whatever it is told to."""
    fields = {field.name for field in dataclasses.fields(settings)}
    for key, value in vars(settings).items():
        if key not in fields:
            raise ConfigError(f"{prefix}{key}: there is no such setting; --help lists the keys")
        if dataclasses.is_dataclass(value):
            _refuse_added_keys(value, f"{prefix}{key}.")


def settings_from_plain(plain: dict[str, Any], overrides: list[str]) -> config.TrainSettings:
    """The settings that a checkpoint carries, with the overrides of a command on top.

    Args:
        plain: what ``plain_settings`` gave, from a file that may be anybody's.
        overrides: ``key=value`` each, of this command.

    Raises:
        ConfigError: an unknown key, a wrong type or value, or one that is not plain.
    """
    plain = check_settings(plain, "stored settings")
    try:
        tree = OmegaConf.structured(config.TrainSettings)
        for group, schemas in config.SCHEMAS.items():
            keys = set(plain.get(group, ()))
            fitting = [
                (len(fields), name)
                for name, schema in schemas.items()
                if keys <= (fields := {f.name for f in dataclasses.fields(schema)})
            ]
            if group and fitting:
                tree[group] = OmegaConf.structured(schemas[min(fitting)[1]])
        tree = OmegaConf.merge(tree, plain, OmegaConf.from_dotlist(overrides))
        return typing.cast(config.TrainSettings, to_settings(typing.cast(DictConfig, tree)))
    except OmegaConfBaseException as error:
        raise ConfigError(format_config_error(error)) from error


def plain_settings(settings: config.TrainSettings) -> dict[str, Any]:
    """Settings as plain dicts, lists, strings and numbers, as checkpoints hold them."""
    tree = OmegaConf.to_container(OmegaConf.structured(settings), resolve=True, enum_to_str=True)
    return typing.cast(dict[str, Any], tree)
