"""Translate old names of settings to current ones.

A renamed setting is declared by ``setting(default, renamed_from="old_name")``. The old name then
works on the command line and in YAML files, with one line on stderr, and silently in the settings
that runs, sweeps and prepared corpora store.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import Mapping
from typing import Any

from korlm import config
from korlm.config.keys import schemas_by_prefix
from korlm.config.validation import RENAMED_FROM, RENAMED_VALUES
from korlm.utils import dist_env

REMOVED_IN = "0.3"

_HYDRA_SCHEMAS: dict[str, list[type]] = {"hydra.sweeper.": [config.SearchConfig]}
_SEARCH_SPACE = "hydra.sweeper.params"  # its keys are settings of korlm.train

_warned: set[str] = set()


@functools.cache
def _renamed(command: str) -> dict[str, tuple[str, Mapping[str, str]]]:
    """Return old key -> (new key, old value -> new value), with the group in front of each key."""
    return {
        prefix + field.metadata[RENAMED_FROM]: (
            prefix + field.name,
            field.metadata.get(RENAMED_VALUES, {}),
        )
        for prefix, schemas in (schemas_by_prefix(command) | _HYDRA_SCHEMAS).items()
        for schema in schemas
        for field in dataclasses.fields(schema)
        if RENAMED_FROM in field.metadata
    }


def rename_override(override: str, command: str = "train", warn: bool = False) -> str:
    """Return an override such as ``trainer.valid_every=5`` under the setting's current name.

    Args:
        override: ``key=value``, with Hydra's ``+`` or ``~`` in front or not. Everything else is
            returned as it is.
        command: the command whose settings are given.
        warn: whether to print one line about each old name.
    """
    match = re.fullmatch(r"([+~]*)([\w.]+)(?:=(.*))?", override, re.DOTALL)
    if match is None or match[2] not in _renamed(command):
        return override
    new, values = _renamed(command)[match[2]]
    if warn:
        _warn(match[2], new)
    value = "" if match[3] is None else f"={values.get(match[3].lower(), match[3])}"
    return f"{match[1]}{new}{value}"


def rename_tree(
    tree: Mapping[Any, Any], command: str = "train", prefix: str = "", warn: bool = False
) -> dict[Any, Any]:
    """Return a tree of settings (group -> key -> value) under the settings' current names.

    Args:
        tree: some or all settings of a command.
        command: the command.
        prefix: of the keys of ``tree``, such as ``model.`` for a file of this group.
        warn: whether to print one line about each old name.
    """
    renamed: dict[Any, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in _renamed(command):
            new, values = _renamed(command)[name]
            if warn:
                _warn(name, new)
            key = new.removeprefix(prefix)
            value = values.get(str(value).lower(), value)
        elif isinstance(value, Mapping):
            inner = "" if name == _SEARCH_SPACE else f"{name}."
            value = rename_tree(value, command, inner, warn)
        renamed[key] = value
    return renamed


def _warn(old: str, new: str) -> None:
    if old not in _warned and dist_env.place().is_main_process:
        _warned.add(old)
        line = f"{old} is now {new}; the old name works until korlm {REMOVED_IN}\n"
        sys.stderr.write(line)


def register_config_source(command: str) -> None:
    """Make Hydra accept old names in YAML files.

    Args:
        command: the command whose files are read next.
    """
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.plugins import Plugins
    from hydra.plugins.config_source import ConfigResult
    from omegaconf import DictConfig, OmegaConf

    class RenamingConfigSource(FileConfigSource):
        """Hydra's source of YAML files, with old names replaced by current ones."""

        def load_config(self, config_path: str) -> ConfigResult:
            result = super().load_config(config_path)
            if isinstance(result.config, DictConfig):
                package = result.header.get("package") or config_path.rpartition("/")[0]
                prefix = "" if package in ("", "_global_") else package.replace("/", ".") + "."
                plain = OmegaConf.to_container(result.config)
                assert isinstance(plain, dict)
                renamed = rename_tree(plain, command, prefix, warn=True)
                if renamed != plain:
                    result.config = OmegaConf.create(renamed)
            return result

    Plugins.instance()  # registers Hydra's own source, which is replaced here
    SourcesRegistry.instance().types["file"] = RenamingConfigSource
