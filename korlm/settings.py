"""Settings: Hydra's tree or a checkpoint's plain values -> the dataclasses of korlm.config."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from pathlib import Path
from typing import Any

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korlm import config
from korlm.errors import ConfigError, KorlmError
from korlm.stored import check_settings


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
    settings = OmegaConf.to_object(tree)
    _refuse_added_keys(settings)
    return settings


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
    check_settings(plain, "stored settings")
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
    """Refuses keys of a group that may be left out and was: Hydra would break down over them.

    Args:
        command: whose settings were given.
        arguments: as they were typed.

    Raises:
        ConfigError: naming the key, and how to choose the group.
    """
    fields = dataclasses.fields(config.SCHEMAS[""][f"{command}_schema"])
    optional = {f.name for f in fields if f.default is None} & set(config.SCHEMAS)
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        group = key.split(".")[0]
        chosen = any(other.startswith(f"{group}=") for other in arguments)
        if group in optional and (value.startswith("{") or not chosen):
            names = "|".join(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))
            raise ConfigError(f"{argument}: choose the group as well: {group}={names}")


def all_keys(command: str) -> list[str]:
    """Every setting that a command knows with some choice of its groups, as key or group.key."""
    keys: list[str] = []
    for field in dataclasses.fields(config.SCHEMAS[""][f"{command}_schema"]):
        default = field.default_factory
        choices = list(config.SCHEMAS.get(field.name, {}).values())
        schemas = [default] if isinstance(default, type) else choices
        keys.append(field.name)
        for schema in filter(dataclasses.is_dataclass, schemas):
            keys += [f"{field.name}.{f.name}" for f in dataclasses.fields(schema)]
    return sorted(set(keys))


def one_line(error: BaseException, command: str = "train") -> str:
    """What a user must know of a wrong setting, without the layers that Hydra wraps around it.

    Args:
        error: what Hydra or OmegaConf has raised.
        command: whose settings were given.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    for link in chain:
        if isinstance(link, KorlmError):
            return str(link)
    texts = [str(link) for link in chain if isinstance(link, OmegaConfBaseException)]
    if not texts:
        text = re.sub(
            r"\s*(Config search path:|See https://hydra\.cc).*", "", str(error), flags=re.S
        )
        text = " ".join(re.sub(r"\b\w+_schema\b", "", text).split())
        for link in chain:
            if isinstance(link, OverrideParseException):
                hint = "blanks, commas and signs need quotes within quotes: \"name='a b'\""
                text = f"{link.override}: {text}; {hint}"
                break
        return text
    text = texts[-1]  # the innermost
    message = text.splitlines()[0]
    key = "".join(re.findall(r"full_key: (\S+)", text)[:1])
    unknown = re.match(r"Key '([^']+)' (?:is )?not in", message)
    if unknown:
        wrong = key or unknown.group(1)
        if wrong in all_keys(command):
            group = wrong.split(".")[0]
            return f"{wrong}: belongs to another choice of {group} than the one that was made"
        near = difflib.get_close_matches(wrong, all_keys(command), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the keys"
        return f"{wrong}: there is no such setting; {hint}"
    # OmegaConf leaves the names of its own template in some messages.
    message = message.replace("Value '$VALUE' of type '$VALUE_TYPE' could", "the value could")
    message = message.replace("Value '$VALUE' is not a", "the value is not a")
    message = message.replace("Invalid value '$VALUE'", "invalid value")
    message = message.replace(" (type $VALUE_TYPE)", "")
    message = re.sub(r"field '[\w.]+' is not Optional", "must not be null", message)
    where = key or str(error).splitlines()[0].removeprefix("Error merging override ")
    return f"{where}: {message}" if where != message else message
