"""List the keys of each command: names, old names, and which of them hold paths.

A renamed key is declared by ``setting(default, renamed_from="old_name")``. The old name then works
on the command line and in YAML files, with one line on stderr, and silently in the settings that
runs, sweeps and prepared corpora store.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from korlm import config
from korlm.config import registry
from korlm.config.paths import expand_home
from korlm.config.validation import path_kinds, setting_of
from korlm.utils import dist_env

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")
REMOVED_IN = "0.3"  # version of korlm that refuses old names


def conf_dir() -> Path:
    """Return the folder of YAML files: beside the package in a checkout, inside it if installed."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    if (checkout / "pyproject.toml").exists() and (checkout / "conf").is_dir():
        return checkout / "conf"
    return package / "conf"


def choices(group: str) -> list[str]:
    """Return the names that ``GROUP=NAME`` accepts, those of imported modules included."""
    folders = [conf_dir(), *registry.conf_dirs()]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def schemas_by_prefix(command: str) -> dict[str, list[Any]]:
    """Return key prefix (``model.``, ...; "" for no group) -> settings classes of all choices."""
    schema = registry.schemas("")[command]
    schemas: dict[str, list[Any]] = {"": [schema]}
    for field in dataclasses.fields(schema):
        default = field.default_factory
        registered = list(registry.schemas(field.name).values())
        classes = [default] if isinstance(default, type) else registered
        schemas[f"{field.name}."] = [cls for cls in classes if dataclasses.is_dataclass(cls)]
    return schemas


def all_keys(command: str) -> list[str]:
    """Return all keys of a command under any choice of its groups, as key or group.key."""
    return sorted(
        {
            prefix + field.name
            for prefix, schemas in schemas_by_prefix(command).items()
            for schema in schemas
            for field in dataclasses.fields(schema)
        }
    )


def path_keys(command: str) -> dict[str, bool]:
    """Return key -> True for a list of paths, False for a path; of keys that hold paths."""
    keys = dict.fromkeys(HYDRA_PATHS, False)
    for prefix, schemas in (schemas_by_prefix(command) | _HYDRA_SCHEMAS).items():
        for schema in schemas:
            keys |= {prefix + key: is_list for key, is_list in path_kinds(schema).items()}
    return keys


_HYDRA_SCHEMAS: dict[str, list[type]] = {
    "hydra.sweeper.": [config.SearchConfig],
    "hydra.launcher.": list(config.LAUNCHERS.values()),
}
_SEARCH_SPACE = "hydra.sweeper.params"  # its keys are settings of korlm.train

_warned: set[str] = set()


@functools.cache
def _renamed(command: str) -> dict[str, tuple[str, Mapping[str, str]]]:
    """Return old key -> (new key, old value -> new value); keys include the group."""
    return {
        prefix + declared.renamed_from: (prefix + field.name, declared.renamed_values)
        for prefix, schemas in (schemas_by_prefix(command) | _HYDRA_SCHEMAS).items()
        for schema in schemas
        for field in dataclasses.fields(schema)
        if (declared := setting_of(field)).renamed_from
    }


def rename_override(override: str, command: str = "train", warn: bool = False) -> str:
    """Return an override such as ``trainer.valid_every=5`` with the current name of its setting.

    Args:
        override: ``key=value``, possibly with Hydra's ``+`` or ``~`` in front. Any other text is
            returned unchanged.
        command: the command that the override is for.
        warn: whether to print one line on stderr about each old name.
    """
    if override == "hydra/launcher=joblib":
        if warn:
            _warn(override, "hydra/launcher=parallel")
        return "hydra/launcher=parallel"
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
    """Return a tree of settings (group -> key -> value) with the current names of the settings.

    Args:
        tree: some or all settings of a command.
        command: the command.
        prefix: what precedes the keys of ``tree``, such as ``model.`` for a file of this group.
        warn: whether to print one line on stderr about each old name.
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


def expand_tree(tree: Mapping[Any, Any], command: str, prefix: str = "") -> dict[Any, Any]:
    """Return a tree of settings with ``~`` in all paths replaced by the home folder.

    Args:
        tree: the settings in a YAML file.
        command: the command that reads it.
        prefix: what precedes the keys of ``tree``, such as ``corpus.`` for a file of this group.
    """
    paths, expanded = path_keys(command), dict(tree)
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            inner = "" if name == _SEARCH_SPACE else f"{name}."
            expanded[key] = expand_tree(value, command, inner)
        elif name in paths and isinstance(value, str):
            expanded[key] = expand_home(value, name)
        elif name in paths and isinstance(value, list):
            expanded[key] = [expand_home(v, name) if isinstance(v, str) else v for v in value]
    return expanded


def _warn(old: str, new: str) -> None:
    if old not in _warned and dist_env.current_rank().is_main_process:
        _warned.add(old)
        line = f"{old} is now {new}; the old name works until korlm {REMOVED_IN}\n"
        sys.stderr.write(line)
