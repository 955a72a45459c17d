"""Register the choices that the groups of conf/ offer, such as models and tokenizers.

A config class is registered under a name in a group, together with the class or function that is
built from it. The latter is given as a string, so that reading settings imports no PyTorch. Hydra's
schemas, the checks of names, the functions that build models, tokenizers and optimizers, the list
of valid keys and the parameters of the contract tests are derived from this registry.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from korlm.utils.errors import ConfigError, not_a_choice

Config = TypeVar("Config", bound="type[Any]")

# Groups whose settings have a key ``name`` that is the name of the choice.
NAMED = ("task", "model", "tokenizer", "optimizer", "schedule")


@dataclass(frozen=True)
class Entry:
    """A registered choice of a group.

    Attributes:
        builds: ``"package.module:name"`` of the class or function that is built from them.
        detokenizer: for a tokenizer, ``"package.module:name"`` of a class without arguments that
            joins its tokens; empty: the detokenizer for morphemes.
    """

    config: type[Any]
    builds: str = ""
    detokenizer: str = ""


_entries: dict[str, dict[str, Entry]] = {}
_imported: dict[str, Path | None] = {}  # module of the setting imports -> its conf folder


def register(
    group: str, name: str, builds: str = "", detokenizer: str = ""
) -> Callable[[Config], Config]:
    """Return a class decorator that registers a dataclass of settings as a choice of a group.

    ``conf/GROUP/NAME.yaml`` begins with the schema ``NAME_schema``, and ``GROUP=NAME`` selects it.

        @korlm.register("model", "bag", builds="my_package.bag:BagLM")
        @dataclass
        class BagConfig(NeuralConfig): ...

    Args:
        group: model, tokenizer or optimizer; korlm registers its other groups with it as well.
        name: name of the choice, equal to the ``name`` of the settings.
        builds: see ``Entry``. Its arguments are documented by ``build_model``,
            ``korlm.tokenizers.registry`` and ``build_optimizer``.
        detokenizer: see ``Entry``.

    Raises:
        ConfigError: another class has this name already.
    """

    def decorate(config: Config) -> Config:
        entries = _entries.setdefault(group, {})
        old = entries.get(name)
        if old and _path(old.config) != _path(config):
            raise ConfigError(
                f"{_path(config)}: {group}={name} is registered by {_path(old.config)}; "
                "choose another name"
            )
        entries[name] = Entry(config, builds, detokenizer)
        return config

    return decorate


def groups() -> list[str]:
    """Return the groups that have registered choices; "" is the group of the commands."""
    return list(_entries)


def entries(group: str) -> dict[str, Entry]:
    """Return the registered choices of a group by name."""
    return dict(_entries.get(group, {}))


def schemas(group: str) -> dict[str, type[Any]]:
    """Return the dataclasses of a group's choices by name."""
    return {name: entry.config for name, entry in entries(group).items()}


def names_of(group: str, config: type[Any]) -> list[str]:
    """Return the names that a dataclass is registered under, sorted."""
    return sorted(name for name, known in schemas(group).items() if known is config)


def load(path: str) -> Any:
    """Import the class or function of a path ``"package.module:name"``."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path!r} is registered, but cannot be imported: {error}") from error


def builder(group: str, name: str) -> Any:
    """Return what is built from the settings of a choice; ``ConfigError`` if it is unknown."""
    if name not in entries(group):
        raise ConfigError(not_a_choice(f"{group}={name}", name, entries(group)))
    return load(_entries[group][name].builds)


def import_modules(names: Iterable[str]) -> None:
    """Import the modules of the setting ``imports``, which register choices.

    A folder ``conf`` beside the file of such a module is added to ``conf_dirs``.
    """
    for name in names:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise ConfigError(f"imports=[{name}]: {error}") from error
            raise ConfigError(
                f"imports=[{name}]: there is no such module; run the command in the folder that "
                "holds it, or add that folder to PYTHONPATH"
            ) from error
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"imports=[{name}]: {type(error).__name__}: {reason}") from error
        conf = Path(module.__file__).resolve().with_name("conf") if module.__file__ else None
        _imported[name] = conf if conf and conf.is_dir() else None


def imported() -> list[str]:
    """Return the names that ``import_modules`` has imported."""
    return list(_imported)


def conf_dirs() -> list[Path]:
    """Return the folders of settings of the modules that ``import_modules`` has imported."""
    return [folder for folder in dict.fromkeys(_imported.values()) if folder]


def _path(config: type[Any]) -> str:
    return f"{config.__module__}.{config.__qualname__}"
