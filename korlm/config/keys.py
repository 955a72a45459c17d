"""The settings that each command knows, and the folder of their files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from korlm import config
from korlm.config.validation import MANY, path_kinds

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")


def conf_dir() -> Path:
    """The folder of the settings: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent
    if (checkout / "pyproject.toml").exists() and (checkout / "conf").is_dir():
        return checkout / "conf"
    return package / "conf"


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def schemas_by_prefix(command: str) -> dict[str, list[Any]]:
    """Return the dataclasses behind each key of a command: one, or one for each choice."""
    found: dict[str, list[Any]] = {"": [config.SCHEMAS[""][f"{command}_schema"]]}
    for field in dataclasses.fields(found[""][0]):
        default = field.default_factory
        choices = list(config.SCHEMAS.get(field.name, {}).values())
        schemas = [default] if isinstance(default, type) else choices
        found[f"{field.name}."] = [s for s in schemas if dataclasses.is_dataclass(s)]
    return found


def all_keys(command: str) -> list[str]:
    """Every setting that a command knows with some choice of its groups, as key or group.key."""
    return sorted(
        {
            prefix + field.name
            for prefix, schemas in schemas_by_prefix(command).items()
            for schema in schemas
            for field in dataclasses.fields(schema)
        }
    )


def path_keys(command: str) -> dict[str, bool]:
    """Return the settings of a command that hold paths, and whether each holds a list."""
    found = dict.fromkeys(HYDRA_PATHS, False)
    for prefix, schemas in schemas_by_prefix(command).items():
        for schema in schemas:
            found |= {prefix + key: kind == MANY for key, kind in path_kinds(schema).items()}
    return found
