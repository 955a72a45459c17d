"""The settings of a job are those that Hydra composes from all of its overrides at once."""

from __future__ import annotations

from collections.abc import Iterator

import hydra
import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from korlm import config
from korlm.cli.compose import _isolated_hydra
from korlm.config.keys import conf_dir
from korlm.sweeps.search.job_loader import JobLoader

JOBS = [
    ["model=gru", "seed=1", "optimizer.lr=0.1"],
    ["model=gru", "seed=2", "optimizer.lr=0.2"],
    ["seed=3", "experiment=smoke", "trainer.max_steps=1", "+model.added=[1,a]", "~name"],
    ["trainer.epochs=2", "trainer={epochs:3,max_steps:4}", "optimizer=sgd", "prepared='a, b'"],
    [],
]


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    Plugins.instance()
    with _isolated_hydra():
        config.store_schemas()
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()


def sweep(loader: ConfigLoader, *overrides: str) -> DictConfig:
    return loader.load_configuration("train", list(overrides), RunMode.MULTIRUN)


def test_jobs_have_the_settings_that_hydra_composes(loader: ConfigLoader) -> None:
    master = sweep(loader, "hydra.job.name=mine", "seed=1,2", "hydra/launcher=parallel")
    jobs = JobLoader(loader)
    for overrides in [*JOBS, *JOBS]:
        ours = jobs.load_sweep_config(master, overrides)
        theirs = loader.load_sweep_config(master, overrides)
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs)


def test_a_wrong_value_of_a_job_has_the_message_of_hydra(loader: ConfigLoader) -> None:
    master, jobs = sweep(loader), JobLoader(loader)
    for wrong in (["optimizer.rate=1"], ["trainer.epochs=x"], ["model=nothing"], ["nothing=1"]):
        messages = []
        for each in (jobs, loader):
            with pytest.raises(Exception) as caught:
                each.load_sweep_config(master, ["seed=1", *wrong])
            messages.append((type(caught.value), str(caught.value), str(caught.value.__cause__)))
        assert messages[0] == messages[1]
    with pytest.raises(ConfigCompositionException):
        jobs.load_sweep_config(master, ["seed=x"])
