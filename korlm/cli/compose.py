"""Compose the settings of a command from Python values, for ``korlm.train(...)`` and its like.

The command line itself is in ``korlm.cli.command``. Hydra's global state stays unchanged.
Both adapt where Hydra reads settings from (``register_config_source``): YAML files may have old
names of settings, and ``~`` in paths, and a schema is no choice of its group.
"""

from __future__ import annotations

import contextlib
import copy
import enum
import os
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins import structured_config_source
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.plugins.config_source import ConfigResult
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

from korlm.cli.arguments import IMPORTS, check_arguments, check_groups, quote_literal
from korlm.cli.command import (
    VERSION_BASE,
    ConfDirsOfImports,
    check_imports,
    warn_without_effect,
)
from korlm.cli.output_dirs import register_resolvers
from korlm.config import registry, store_schemas
from korlm.config.error_messages import format_config_error
from korlm.config.keys import choices, conf_dir, path_keys, rename_override, rename_tree
from korlm.config.paths import expand_paths
from korlm.config.serialization import to_settings
from korlm.utils.errors import ConfigError, KorlmError


def register_config_source(command: str) -> None:
    """Make Hydra accept old names and ``~`` in YAML files, and list no schemas."""

    class KorlmConfigSource(FileConfigSource):
        """Hydra's source of YAML files; it returns current names of settings and expanded paths."""

        def load_config(self, config_path: str) -> ConfigResult:
            result = super().load_config(config_path)
            if isinstance(result.config, DictConfig):
                package = result.header.get("package") or config_path.rpartition("/")[0]
                prefix = "" if package in ("", "_global_") else package.replace("/", ".") + "."
                plain = OmegaConf.to_container(result.config)
                assert isinstance(plain, dict)
                paths = path_keys(command)
                current = rename_tree(plain, command, prefix, warn=True, paths=paths)
                if current != plain:
                    result.config = OmegaConf.create(current)
            return result

    class StructuredConfigSource(structured_config_source.StructuredConfigSource):
        """Hydra's source of schemas, which files in ``conf/`` begin with; it does not list them.

        Lists of choices are those of shell completion and of ``GROUP=glob(*)``. Hydra finds the
        source by the name of its class.
        """

        def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
            names = super().list(config_path, results_filter)
            return [name for name in names if not name.endswith("_schema")]

    Plugins.instance()  # registers Hydra's own sources, which are replaced here
    SourcesRegistry.instance().types["file"] = KorlmConfigSource
    SourcesRegistry.instance().types["structured"] = StructuredConfigSource


_lock = threading.Lock()  # Hydra composes with global state

# Words that need no quotes in Hydra's grammar and have no other meaning there.
_PLAIN = re.compile(r"(?!(null|true|false|inf|nan)$)[A-Za-z_][\w./-]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Composed:
    """Settings of a command.

    Attributes:
        overrides: the given settings, in the grammar of the command line.
    """

    settings: Any
    overrides: list[str]
    tree: DictConfig

    def write(self, folder: Path) -> None:
        """Write ``.hydra/config.yaml`` and ``.hydra/overrides.yaml``, as Hydra does."""
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.tree, folder / ".hydra" / "config.yaml")
        OmegaConf.save(OmegaConf.create(self.overrides), folder / ".hydra" / "overrides.yaml")


def compose(command: str, settings: Mapping[str, Any]) -> Composed:
    """Compose the settings of a command, with the same checks and messages as the command line.

    Args:
        command: name of the command, such as ``train``.
        settings: key -> value. Keys are those of the command line (``model``, ``seed``,
            ``trainer.epochs``). The value of a group is the name of a choice, or a dict of its keys
            with the choice under ``name``; that of ``corpus`` may also be a ``pathlib.Path`` or a
            list of paths. The value of ``prepare.options`` is a dict.

    Raises:
        ConfigError: there is no such setting, a key is given twice, or a value is wrong.
    """
    registry.import_modules(_module_names(settings.get(IMPORTS, ())))
    overrides = overrides_of(command, settings)
    overrides = [rename_override(word, command, warn=True) for word in overrides]
    keys = Counter(word.partition("=")[0] for word in overrides)
    if twice := [key for key, count in keys.items() if count > 1]:  # by its old name as well
        raise ConfigError(f"{twice[0]}: given twice, also under an old name; give it once")
    check_arguments(command, overrides)
    with _lock, _isolated_hydra():
        try:
            store_schemas()
            register_resolvers()
            register_config_source(command)
            Plugins.instance().register(ConfDirsOfImports)
            check_groups(command, overrides)
            with hydra.initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE):
                tree = hydra.compose(command, overrides)
            composed = to_settings(tree)
            OmegaConf.resolve(tree)  # while the resolvers exist
        except KorlmError:
            raise
        except Exception as error:  # while composing, every exception is an error in the settings
            raise ConfigError(format_config_error(error, command)) from None
    check_imports(composed)
    warn_without_effect(composed, overrides)
    return Composed(composed, overrides, tree)


def _module_names(imports: object) -> list[str]:
    names = [imports] if isinstance(imports, str) else imports
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return list(names)
    raise ConfigError(f"{IMPORTS}={imports!r:.80}: must be a list of names of modules")


def overrides_of(command: str, settings: Mapping[str, Any]) -> list[str]:
    """Return settings as overrides of the command line; see ``compose``.

    >>> overrides_of("train", {"model": {"name": "gru", "hidden_dim": 8}, "trainer.epochs": 2})
    ['model=gru', 'model.hidden_dim=8', 'trainer.epochs=2']
    """
    paths, values = path_keys(command), flatten(settings)
    for name in values.keys() & paths.keys():
        path = expand_paths(values[name], name)
        values[name] = [path] if paths[name] and isinstance(path, str) else path
    return [f"{name}={_to_literal(value, name)}" for name, value in values.items()]


def merge(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, replaced by others; a new choice of a group replaces all of its keys.

    >>> merge({"seed": 1, "trainer": {"epochs": 1}}, {"trainer": {"max_steps": 5}})
    {'seed': 1, 'trainer.epochs': 1, 'trainer.max_steps': 5}
    """
    flat, replaced = flatten(settings), flatten(others)
    kept = {key: value for key, value in flat.items() if key.partition(".")[0] not in replaced}
    return kept | replaced


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the keys in groups written out, such as ``trainer.epochs``."""
    flat: dict[str, Any] = {}
    for key, value in _move_files(settings).items():
        if not isinstance(key, str):
            raise ConfigError(f"{key!r:.80}: the names of settings are strings")
        items = {key: value}
        if isinstance(value, Mapping) and "." not in key:  # a group; prepare.options is a dict
            items = {f"{key}.{inner}": part for inner, part in value.items()}
            if f"{key}.name" in items and choices(key):
                items = {key: items.pop(f"{key}.name"), **items}
        if twice := [name for name in items if name in flat]:
            raise ConfigError(f"{twice[0]}: given twice, once in a dict or by corpus=FILES")
        flat |= items
    return flat


def _to_literal(value: Any, key: str) -> str:
    """Return a value in Hydra's grammar."""
    if getattr(value, "shape", None) == ():  # a scalar of NumPy or PyTorch
        value = value.item()
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        return text if _PLAIN.fullmatch(text) else quote_literal(text)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_to_literal(part, key) for part in value) + "]"
    if isinstance(value, Mapping):
        if odd := [name for name in value if not _PLAIN.fullmatch(str(name))]:
            raise ConfigError(f"{key}: {odd[0]!r:.80} is not a name of letters, digits and _")
        return "{" + ",".join(f"{k}:{_to_literal(part, key)}" for k, part in value.items()) + "}"
    raise ConfigError(
        f"{key}={value!r:.80}: must be a number, a str, a bool, None, a path or a list or dict of "
        "them"
    )


@contextlib.contextmanager
def _isolated_hydra() -> Iterator[None]:
    """Let Hydra and OmegaConf change only a copy of their global state within the block."""
    Plugins.instance()  # finds the plugins and their sources once
    instances, resolvers = dict(Singleton._instances), dict(BaseContainer._resolvers)
    for kind in (ConfigStore, Plugins, SourcesRegistry, VersionBase):
        if kind in instances:
            Singleton._instances[kind] = copy.deepcopy(instances[kind])
    Singleton._instances.pop(GlobalHydra, None)
    try:
        yield
    finally:
        Singleton._instances.clear()
        Singleton._instances.update(instances)
        BaseContainer._resolvers = resolvers


def _move_files(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which files given as ``corpus`` are in ``corpus.files``."""
    corpus = given.get("corpus")
    if isinstance(corpus, str) and {"/", "\\", "."} & set(corpus):
        raise ConfigError(
            f"corpus={corpus!r}: a str is the name of a choice; give files as corpus=[{corpus!r}]"
        )
    if corpus is None or isinstance(corpus, str | Mapping):
        return dict(given)
    if not isinstance(corpus, os.PathLike | Iterable):
        raise ConfigError(f"corpus={corpus!r}: give a name, a file, a list of files, or a dict")
    files = [corpus] if isinstance(corpus, os.PathLike) else list(corpus)
    return {**given, "corpus": {"name": "text", "files": files}}
