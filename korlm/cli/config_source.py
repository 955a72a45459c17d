"""Adapt where Hydra reads settings from: YAML files and schemas.

YAML files may have old names of settings, and ``~`` in paths. A schema is no choice of its group.
"""

from __future__ import annotations

from hydra._internal.core_plugins import structured_config_source
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from korlm.config.keys import path_keys, rename_tree


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
