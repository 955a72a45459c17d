"""Hydra finds korlm's own sweepers and launchers, and other processes can unpickle them."""

import pickle

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from korlm.sweeps import hydra_plugins


class OwnLauncher(Launcher):
    """A launcher that does nothing."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def setup(self, **others: object) -> None:
        self.others = others

    def launch(self, job_overrides: object, initial_job_idx: int) -> list[object]:  # type: ignore
        return []


def test_a_plugin_of_korlm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydra_plugins, "CLASSES", (OwnLauncher,))
    hydra_plugins.register()
    hydra_plugins.register()
    target = "hydra_plugins.korlm.OwnLauncher"
    config = OmegaConf.create({"hydra": {"launcher": {"_target_": target, "jobs": 3}}})
    launcher = Plugins.instance().instantiate_launcher(None, None, config)  # type: ignore
    assert isinstance(launcher, OwnLauncher)
    assert launcher.jobs == 3
    assert Plugins.instance().discover(Launcher).count(OwnLauncher) == 1
    assert pickle.loads(pickle.dumps(OwnLauncher)) is OwnLauncher
