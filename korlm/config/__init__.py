"""Define typed settings: one dataclass per group of conf/, with checks of its values.

The YAML files have the values, the dataclasses the types and checks. Each file of a group begins
with its schema, so that Hydra rejects a misspelt key or a wrong type; ``__post_init__`` checks the
rest. Commands convert Hydra's tree to these dataclasses at once: no other code sees OmegaConf.

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
from korlm.config.groups.corpus import *
from korlm.config.groups.model import *
from korlm.config.groups.sweeps import *
from korlm.config.groups.task import *
from korlm.config.groups.tokenizer import *
from korlm.config.groups.training import *
from korlm.config.validation import *


def store_schemas() -> None:
    """Put the schemas with which the files under conf/ begin into Hydra's ConfigStore."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group in registry.groups():
        for name, node in registry.schemas(group).items():
            store.store(name=f"{name}_schema", node=node, group=group or None)
    for name, node in LAUNCHERS.items():
        store.store(name=name, node=node, group="hydra/launcher")
    store.store(name="optuna_schema", node=SearchConfig, group="hydra/sweeper")
