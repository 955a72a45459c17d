"""Register korlm's sweepers and launchers with Hydra.

Hydra discovers plugins only in the package ``hydra_plugins``, which korlm does not ship, so they
are registered here. Files in conf/hydra refer to them as ``_target_: hydra_plugins.korlm.<class>``.
Their modules must not import slow packages.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

from korlm.config import GridConfig
from korlm.sweeps.launchers.parallel_launcher import ParallelLauncher
from korlm.sweeps.launchers.submitit_launcher import LocalLauncher, SlurmLauncher
from korlm.sweeps.search.sweepers import GridSweeper, OptunaSweeper

CLASSES: tuple[type[Plugin], ...] = (
    *(ParallelLauncher, LocalLauncher, SlurmLauncher),
    *(GridSweeper, OptunaSweeper),
)


def register() -> None:
    """Register the classes; this may be called more than once."""
    plugins = Plugins.instance()
    for plugin in CLASSES:
        plugins.register(plugin)
        plugins.class_name_to_class[f"hydra_plugins.korlm.{plugin.__name__}"] = plugin
    # Replaces Hydra's own basic sweeper, which is registered by now.
    ConfigStore.instance().store(group="hydra/sweeper", name="basic", node=GridConfig)
