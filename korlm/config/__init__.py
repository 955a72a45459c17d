"""Typed settings: one dataclass per group of conf/, with the checks of its values.

YAML holds values, the dataclasses here hold types and checks, everything else holds behaviour. Each
file of a group begins with its schema, so that a misspelt key or a wrong type stops a run before
any work; ``__post_init__`` does the rest. Stages turn Hydra's tree into these dataclasses at once:
nothing below a stage sees OmegaConf.

Importing this package imports its modules, which register their classes (see ``registry``), and
exports what they define.
"""

# ruff: noqa: F403, F405

from __future__ import annotations

from korlm.config import registry as registry
from korlm.config.commands.evaluate import *
from korlm.config.commands.export import *
from korlm.config.commands.generate import *
from korlm.config.commands.inference import *
from korlm.config.commands.pairs import *
from korlm.config.commands.predict import *
from korlm.config.commands.prepare import *
from korlm.config.commands.report import *
from korlm.config.commands.rescore import *
from korlm.config.commands.score import *
from korlm.config.commands.serve import *
from korlm.config.commands.train import *
from korlm.config.groups.data import *
from korlm.config.groups.model import *
from korlm.config.groups.sweeps import *
from korlm.config.groups.task import *
from korlm.config.groups.training import *
from korlm.config.validation import *


def store_schemas() -> None:
    """Store the schemas that the files under conf/ begin with in Hydra's ConfigStore."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group in registry.groups():
        for name, node in registry.schemas(group).items():
            store.store(name=f"{name}_schema", node=node, group=group or None)
    for name, node in LAUNCHERS.items():
        store.store(name=name, node=node, group="hydra/launcher")
    store.store(name="optuna_schema", node=SearchConfig, group="hydra/sweeper")
