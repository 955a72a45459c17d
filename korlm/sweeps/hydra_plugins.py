"""Sweepers and launchers of korlm's own, made known to Hydra.

Hydra takes plugins from the package ``hydra_plugins`` alone, which korlm does not ship: files under
conf/hydra name them ``_target_: hydra_plugins.korlm.<class>``. The classes keep the modules that
they are written in, so that other processes can unpickle them; those must import nothing heavy.
"""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.plugin import Plugin

from korlm.config import GridConfig
from korlm.sweeps.launchers.joblib_launcher import JoblibLauncher
from korlm.sweeps.launchers.submitit_launcher import LocalLauncher, SlurmLauncher
from korlm.sweeps.search.grid import GridSweeper
from korlm.sweeps.search.sweeper import OptunaSweeper

CLASSES: tuple[type[Plugin], ...] = (
    *(JoblibLauncher, LocalLauncher, SlurmLauncher),
    *(GridSweeper, OptunaSweeper),
)


def register() -> None:
    """Tells Hydra the classes; more than once does no harm."""
    plugins = Plugins.instance()
    for found in CLASSES:
        plugins.register(found)
        plugins.class_name_to_class[f"hydra_plugins.korlm.{found.__name__}"] = found
    # In the place of Hydra's own, which its plugins have registered by now.
    ConfigStore.instance().store(group="hydra/sweeper", name="basic", node=GridConfig)
