"""List the keys of each command: names, old names, and which of them hold paths.

A renamed key is declared by ``setting(default, renamed_from="old_name")``. The old name then works
on the command line and in YAML files, with one line on stderr, and silently in the settings that
runs, sweeps and prepared corpora store.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from korlm import config
from korlm.config import registry
from korlm.config.paths import expand_paths
from korlm.config.validation import setting_of
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


def iter_keys(command: str) -> Iterator[tuple[str, Field[Any]]]:
    """Yield the settings of a command under any choice of its groups, as key or group.key."""
    for field in fields(registry.schemas("")[command]):
        yield field.name, field
        default: Any = field.default_factory
        schemas = [default] if is_dataclass(default) else registry.schemas(field.name).values()
        for schema in schemas:
            yield from ((f"{field.name}.{inner.name}", inner) for inner in fields(schema))


def _iter_all_keys(command: str) -> Iterator[tuple[str, Field[Any]]]:
    """Yield the settings of a command, and those of searches and launchers."""
    yield from iter_keys(command)
    yield from ((f"hydra.sweeper.{field.name}", field) for field in fields(config.SearchConfig))
    for launcher in config.LAUNCHERS.values():
        yield from ((f"hydra.launcher.{field.name}", field) for field in fields(launcher))


def path_keys(command: str) -> dict[str, bool]:
    """Return key -> True for a list of paths, False for a path; of keys that hold paths."""
    return dict.fromkeys(HYDRA_PATHS, False) | {
        key: field.type not in ("str", "str | None")
        for key, field in _iter_all_keys(command)
        if setting_of(field).is_path
    }


_SEARCH_SPACE = "hydra.sweeper.params"  # its keys are settings of korlm.train

_warned: set[str] = set()


@functools.cache
def _renamed(command: str) -> dict[str, tuple[str, Mapping[str, str]]]:
    """Return old key -> (new key, old value -> new value); keys include the group."""
    return {
        key.removesuffix(field.name) + declared.renamed_from: (key, declared.renamed_values)
        for key, field in _iter_all_keys(command)
        if (declared := setting_of(field)).renamed_from
    }


def rename_override(override: str, command: str = "train", warn: bool = False) -> str:
    """Return an override such as ``trainer.valid_every=5`` with the current name of its setting.

    Any other text is returned unchanged. With ``warn`` a line on stderr names each old name.
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
    tree: Mapping[Any, Any],
    command: str = "train",
    prefix: str = "",
    warn: bool = False,
    paths: Collection[str] = (),
) -> dict[Any, Any]:
    """Return a tree of settings (group -> key -> value) with the current names of the settings.

    Args:
        tree: some or all settings of a command.
        command: the command.
        prefix: what precedes the keys of ``tree``, such as ``model.`` for a file of this group.
        warn: whether to print one line on stderr about each old name.
        paths: keys of paths in which ``~`` is replaced by the home folder.
    """
    renamed: dict[Any, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in _renamed(command):
            new, values = _renamed(command)[name]
            if warn:
                _warn(name, new)
            name, key = new, new.removeprefix(prefix)
            value = values.get(str(value).lower(), value)
        if isinstance(value, Mapping):
            inner = "" if name == _SEARCH_SPACE else f"{name}."
            value = rename_tree(value, command, inner, warn, paths)
        renamed[key] = expand_paths(value, name) if name in paths else value
    return renamed


def _warn(old: str, new: str) -> None:
    if old not in _warned and dist_env.current_rank().is_main_process:
        _warned.add(old)
        line = f"{old} is now {new}; the old name works until korlm {REMOVED_IN}\n"
        sys.stderr.write(line)
