"""Settings: Hydra's tree or a checkpoint's plain values -> the dataclasses of korlm.config."""

from __future__ import annotations

import dataclasses
import difflib
import re
import traceback
import typing
from pathlib import Path
from typing import Any

import yaml  # OmegaConf reads with it
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korlm import config
from korlm.config.base import MANY, path_kinds
from korlm.errors import ConfigError, KorlmError
from korlm.paths import expand_home

HYDRA_PATHS = ("hydra.run.dir", "hydra.sweep.dir")


def conf_dir() -> Path:
    """The folder of the settings: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parent
    if (checkout / "pyproject.toml").exists() and (checkout / "conf").is_dir():
        return checkout / "conf"
    return package / "conf"


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
        plain: what ``plain_settings`` gave.
        overrides: ``key=value`` each.
    """
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
        raise ConfigError(one_line(error)) from error


def plain_settings(settings: config.TrainSettings) -> dict[str, Any]:
    """Settings as plain dicts, lists, strings and numbers, as checkpoints hold them."""
    tree = OmegaConf.to_container(OmegaConf.structured(settings), resolve=True, enum_to_str=True)
    return typing.cast(dict[str, Any], tree)


def check_groups(command: str, arguments: list[str]) -> None:
    """Refuses what Hydra would break down over: choices of a group that are none.

    Keys of a group that may be left out, and was, are such as well.

    Args:
        command: whose settings were given.
        arguments: as they were typed.

    Raises:
        ConfigError: naming the key, and how to choose the group.
    """
    fields = dataclasses.fields(config.SCHEMAS[""][f"{command}_schema"])
    groups = {f.name for f in fields} & set(config.SCHEMAS)
    optional = {f.name for f in fields if f.default is None} & groups
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        group = key.split(".")[0]
        if key in groups - optional and re.fullmatch(r"|null|[\d.+-]+|\[.*\]", value, re.I | re.S):
            raise ConfigError(f"{argument}: must be one of {', '.join(_choices(group))}")
        chosen = any(other.startswith(f"{group}=") for other in arguments)
        if group in optional and (value.startswith("{") or not chosen):
            names = "|".join(_choices(group))
            raise ConfigError(f"{argument}: choose the group as well: {group}={names}")


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _schemas(command: str) -> dict[str, list[Any]]:
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
            for prefix, schemas in _schemas(command).items()
            for schema in schemas
            for field in dataclasses.fields(schema)
        }
    )


def path_keys(command: str) -> dict[str, bool]:
    """Return the settings of a command that hold paths, and whether each holds a list."""
    found = dict.fromkeys(HYDRA_PATHS, False)
    for prefix, schemas in _schemas(command).items():
        for schema in schemas:
            found |= {prefix + key: kind == MANY for key, kind in path_kinds(schema).items()}
    return found


def one_line(error: BaseException, command: str = "train") -> str:
    """What a user must know of a wrong setting, without the layers that Hydra wraps around it.

    Args:
        error: what Hydra, OmegaConf or PyYAML has raised.
        command: whose settings were given.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    for link in chain:
        if isinstance(link, KorlmError):
            return str(link)
        if isinstance(link, yaml.MarkedYAMLError):
            return _of_yaml(link)
        if isinstance(link, UnicodeDecodeError):
            return f"{_file_being_read(link)}: is not UTF-8; save it in this encoding"
        if isinstance(link, OverrideParseException):
            return (
                f"{link.override}: this value cannot be read; blanks, commas and signs need quotes "
                "within quotes: \"name='a b'\""
            )
    texts = [str(link) for link in chain if isinstance(link, OmegaConfBaseException)]
    if texts:
        return _of_omegaconf(texts, str(error), command)
    text = str(error) or type(error).__name__
    if ambiguous := re.match("Ambiguous value for argument '(.*)'", text):
        return f"{ambiguous[1]}: several values: add -m to train with each, or write a list [a,b]"
    text = re.sub(r"\s*(Config search path:|See https://hydra\.cc).*", "", text, flags=re.S)
    return " ".join(re.sub(r"\b\w+_schema\b", "", text).split())


def _of_yaml(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong with a file of settings, and where."""
    mark = error.problem_mark or error.context_mark
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + " ".join(f"is not YAML ({error.problem or error.context})".split())


def _file_being_read(error: BaseException) -> str:
    """Return the file that Hydra was reading when this was raised; no message names it."""
    names = [
        str(frame.f_locals["full_path"])
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if "full_path" in frame.f_locals
    ]
    return names[-1] if names else "a file of settings"


def _of_omegaconf(texts: list[str], outermost: str, command: str) -> str:
    """Return what OmegaConf says, with the key and the file that set it.

    Args:
        texts: what it says, the innermost last.
        outermost: what Hydra has made of that.
        command: whose settings were given.
    """
    message = texts[-1].splitlines()[0]
    keys = [key for text in reversed(texts) for key in re.findall(r"full_key: (\S+)", text)]
    key = "" if not keys or keys[0].startswith("hydra.run") else keys[0]
    composing = re.match(r"In '([\w./-]+)': \w+ raised while composing", outermost)
    file = composing[1] if composing and not composing[1].endswith("_schema") else ""
    file = "" if file == command else file
    by = f"; it is set in {file}.yaml" if file else ""
    unknown = re.match(r"Key '([^']+)' (?:is )?not in", message)
    if unknown:
        wrong = key or unknown.group(1)
        group = wrong.split(".")[0]
        if wrong == file.split("/")[0]:
            return f"{file}.yaml: must begin with the line '# @package _global_' and hold settings"
        if wrong in all_keys(command):
            return f"{wrong}: belongs to another choice of {group} than the one that was made{by}"
        near = difflib.get_close_matches(wrong, all_keys(command), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the keys"
        return f"{wrong}: there is no such setting{by}; {hint}"
    # OmegaConf leaves the names of its own template in some messages.
    message = message.replace("Value '$VALUE' of type '$VALUE_TYPE' could", "the value could")
    message = message.replace("Value '$VALUE' is not a", "the value is not a")
    message = message.replace("Invalid value '$VALUE'", "invalid value")
    message = message.replace(" (type $VALUE_TYPE)", "")
    message = re.sub(r"field '[\w.]+' is not Optional", "must not be null", message)
    message = re.sub(r"^\w+ raised while resolving interpolation: ", "", message)
    message = re.sub(r".* is not a ListConfig, list or tuple\.", "must be a list: [a,b]", message)
    message = re.sub(r"^Merge error: .*", "does not fit the group that was chosen", message)
    typed = re.match(r"Error merging override (.*)", outermost)
    where = typed[1] if typed else key
    return (f"{where}: {message}" if where else message) + by
