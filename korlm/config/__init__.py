"""Typed settings: one dataclass per group of conf/, with the checks of its values.

YAML holds values, the dataclasses here hold types and checks, everything else holds behaviour. Each
file of a group begins with its schema (``korlm.config.registry``), so that a misspelt key or a
wrong type stops a run before any work; ``__post_init__`` does the rest. Stages turn Hydra's tree
into these dataclasses at once: nothing below a stage sees OmegaConf.

This package exports what its modules define. To import a module registers its dataclasses.
"""

# ruff: noqa: F403, F405

from __future__ import annotations

import re
from dataclasses import dataclass, field

from korlm.config import registry
from korlm.config.cluster import *
from korlm.config.commands.evaluate import *
from korlm.config.commands.export import *
from korlm.config.commands.generate import *
from korlm.config.commands.inference import *
from korlm.config.commands.report import *
from korlm.config.commands.rescore import *
from korlm.config.commands.score import *
from korlm.config.commands.serve import *
from korlm.config.data import *
from korlm.config.model import *
from korlm.config.objective import check_objective
from korlm.config.sweeps import *
from korlm.config.training import *
from korlm.config.validation import *
from korlm.config.validation import MISSING, CommandSettings, path_field


@dataclass
class CorpusSettings(CommandSettings):
    """What makes a prepared corpus of a corpus."""

    corpus: CorpusConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    vocab: VocabConfig = field(default_factory=VocabConfig)
    prepare: ClusterConfig = field(default_factory=ClusterConfig)
    outputs: str = path_field("outputs")
    # the folder for prepared corpora, runs and sweeps


@registry.register("", "prepare")
@dataclass
class PrepareSettings(CorpusSettings):
    """python -m korlm.prepare: corpus -> prepared corpus."""

    report: bool = True
    # print what the corpus is like, and keep that beside it: statistics.json, frequencies.png


@registry.register("", "train")
@dataclass
class TrainSettings(CorpusSettings):
    """python -m korlm.train: corpus or prepared corpus -> run."""

    batches: BatchesConfig = MISSING
    model: ModelConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    schedule: ScheduleConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 1
    name: str | None = None
    # goes into the name of the run directory
    prepared: str | None = path_field(None)
    # a prepared corpus to train on as it is, instead of corpus, tokenizer and vocab
    resume: str | None = path_field(None)
    # the directory of a broken-off run to go on with; with -m that of a sweep
    resume_from: ResumeFrom = ResumeFrom.last
    # last: where the run broke off; best: from its best model, where last.pt is damaged; the
    # optimizer begins anew, so that the figures differ from those of an unbroken run
    objective: str = "valid.perplexity"
    # SPLIT.KEY of metrics.json: orders the table of a sweep, and sweepers that search minimise it
    # (the negative of tokens_per_second, of which more is better)

    def __post_init__(self) -> None:
        check_objective(self.objective)
        self._at_least(0, "seed")
        if self.seed >= 1 << 63:
            self._fail("seed", "must be below 2^63")
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            self._fail("name", "must be made of letters, digits, _, . and - alone")


def store_schemas() -> None:
    """Give Hydra the schemas that the files under conf/ begin with."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group in registry.groups():
        for name, node in registry.schemas(group).items():
            store.store(name=f"{name}_schema", node=node, group=group or None)
    for name, node in LAUNCHERS.items():
        store.store(name=name, node=node, group="hydra/launcher")
    store.store(name="optuna_schema", node=SearchConfig, group="hydra/sweeper")
