"""Print ``--help`` of the commands, from the settings classes and the files under conf/."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from korlm import config
from korlm.config import registry
from korlm.config.keys import conf_dir
from korlm.config.serialization import as_typed
from korlm.config.validation import MISSING, enums_of, setting_of
from korlm.utils.errors import ConfigError, not_a_choice, reading

_KEY_WIDTH = 34
_FOOTER = """\
GROUP=NAME --help prints the keys of another choice of a group. --cfg job prints the settings that a
command would use, --version the version of korlm, --hydra-help the flags of Hydra."""

_Schemas = Mapping[str, type[Any]]


def help_text(command: str, arguments: Sequence[str], renamed: Mapping[str, str]) -> str:
    """Return the help of a command: description, examples, groups, and one line for each key."""
    schema = registry.schemas("")[command]
    settings = _Settings(command, arguments)
    typed_keys = {key: typed for typed, key in renamed.items()}
    lines = [f"python -m korlm.{command} [key=value ...]", "", inspect.getdoc(schema) or "", ""]
    if settings.groups:
        lines += ["Groups, selected by GROUP=NAME:", ""]
        for group, choice in settings.groups.items():
            names = " ".join(f"[{n}]" if n == choice else n for n in settings.names(group))
            lines.append(f"  {group:{_KEY_WIDTH}} {names}")
        lines.append("")
    lines += ["Keys with their defaults, set by KEY=VALUE:", ""]
    nested: list[str] = []
    for field in dataclasses.fields(schema):
        part, values = settings.of(field)
        if part is None:
            if field.name not in settings.groups:
                lines.append(_line(typed_keys.get(field.name, field.name), field, schema, values))
            continue
        nested += ["", f"{field.name}: {_first_line(part)}", ""]
        nested += _lines(part, f"{field.name}.", values)
    for group in ("hydra/launcher", "hydra/sweeper"):
        if settings.groups.get(group):
            part, values = settings.choice(group)
            nested += ["", f"{group}: {_first_line(part)}", ""]
            nested += _lines(part, group.replace("/", ".") + ".", values)
    return "\n".join([*lines, *nested, "", _FOOTER, ""])


class _Settings:
    """The groups of a command and their selected choices, from arguments and YAML files."""

    def __init__(self, command: str, arguments: Sequence[str]) -> None:
        self._folders = [conf_dir(), *registry.conf_dirs(), *_config_dirs(arguments)]
        defaults = _read(conf_dir() / f"{command}.yaml")["defaults"]
        chosen = {k: v for d in defaults if isinstance(d, dict) for k, v in d.items()}
        self.groups = {k: v for k, v in chosen.items() if not k.startswith("override ")}
        if command == "train":
            self.groups |= {"hydra/launcher": None, "hydra/sweeper": None}
        typed = dict(a.lstrip("+").split("=", 1) for a in arguments if "=" in a)
        chosen = {k: None if v == "null" else v.split(",")[0] for k, v in typed.items()}
        self._experiment: dict[str, Any] = {}
        if name := chosen.get("experiment"):
            self._experiment = _read(self._path("experiment", name))
            for default in self._experiment.pop("defaults", []):
                for key, value in default.items():
                    self.groups[key.removeprefix("override /")] = value
        self.groups |= {key: value for key, value in chosen.items() if key in self.groups}

    def names(self, group: str) -> list[str]:
        """Return the choices of a group."""
        return sorted({p.stem for folder in self._folders for p in (folder / group).glob("*.yaml")})

    def of(self, field: dataclasses.Field[Any]) -> tuple[type[Any] | None, dict[str, Any]]:
        """Return the settings class of a key and its values in YAML files.

        The class of a key that is not a group is None; the values are then those of all keys.
        """
        factory: Any = field.default_factory
        schema = factory if hasattr(factory, "__dataclass_fields__") else None
        values: dict[str, Any] = {}
        if self.groups.get(field.name):
            schema, values = self.choice(field.name)
        if schema is None:
            return None, self._experiment
        return schema, values | self._experiment.get(field.name, {})

    def choice(self, group: str) -> tuple[type[Any], dict[str, Any]]:
        """Return the settings class and the values of the selected choice of a group."""
        schemas: _Schemas = {f"{name}_schema": c for name, c in registry.schemas(group).items()}
        if group == "hydra/launcher":
            schemas = config.LAUNCHERS
        elif group == "hydra/sweeper":
            schemas = {"optuna_schema": config.SearchConfig, "basic": config.GridConfig}
        return self._load(group, str(self.groups[group]), schemas)

    def _path(self, group: str, name: str) -> Path:
        """Return the YAML file of a choice; raise ``ConfigError`` if there is none."""
        for folder in self._folders:
            if (path := folder / group / f"{name}.yaml").is_file():
                return path
        raise ConfigError(not_a_choice(f"{group}={name}", name, self.names(group)))

    def _load(self, group: str, name: str, schemas: _Schemas) -> tuple[type[Any], dict[str, Any]]:
        """Return the settings class and the values of a choice, with those of its defaults."""
        if name in schemas:
            return schemas[name], {}
        path = self._path(group, name)
        content = _read(path)
        bases = [base for base in content.pop("defaults", []) if base != "_self_"]
        if not bases or not isinstance(bases[0], str):
            raise ConfigError(f"{path}: 'defaults' must begin with a choice or schema of {group}")
        schema, values = self._load(group, bases[0].rpartition("/")[2], schemas)
        return schema, values | content


def _config_dirs(arguments: Sequence[str]) -> Iterator[Path]:
    """Yield the folders that ``--config-dir`` names."""
    for number, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag in ("--config-dir", "-cd"):
            yield Path(value if equals else arguments[number + 1])


def _read(path: Path) -> dict[str, Any]:
    with reading(path, ConfigError, "correct it", "cannot be read"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _first_line(schema: type[Any]) -> str:
    return (inspect.getdoc(schema) or "").splitlines()[0]


def _lines(schema: type[Any], prefix: str, values: Mapping[str, Any]) -> list[str]:
    """Return one line for each key of a group."""
    return [
        _line(prefix + field.name, field, schema, values)
        for field in dataclasses.fields(schema)
        if not field.name.startswith("_")
    ]


def _line(
    key: str, field: dataclasses.Field[Any], schema: type[Any], values: Mapping[str, Any]
) -> str:
    """Return ``key=default  meaning (choices; unit; bounds)``."""
    declared = setting_of(field)
    default = field.default
    if default is dataclasses.MISSING and callable(field.default_factory):
        default = field.default_factory()
    value = values.get(field.name, default)
    shown = "" if value == MISSING else as_typed(value)
    choices = enums_of(schema).get(field.name, ())  # type: ignore[arg-type]  # it is hashable
    notes = ["required"] if value == MISSING else []
    notes += [
        "|".join(str(member.value) for member in choices),
        declared.unit,
        declared.bounds().removeprefix("in "),
    ]
    details = "; ".join(filter(None, notes))
    meaning = f"{declared.help} ({details})" if details else declared.help
    return f"  {f'{key}={shown}':{_KEY_WIDTH}} {meaning}"
