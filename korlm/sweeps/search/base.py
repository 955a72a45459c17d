"""Define the base class of sweepers."""

from __future__ import annotations

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from korlm.sweeps.search.job_loader import JobLoader


class KorlmSweeper(Sweeper):
    """Base class of sweepers; ``setup`` stores Hydra's context and settings, and the launcher."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Store Hydra's context and create the launcher."""
        self.config = config
        self.hydra_context = HydraContext(
            JobLoader(hydra_context.config_loader), hydra_context.callbacks
        )
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=task_function, config=config
        )
