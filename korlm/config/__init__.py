"""Typed settings: one dataclass per group of conf/, with the checks of its values.

YAML holds values, the dataclasses here hold types and checks, everything else holds behaviour. Each
file of a group begins with its schema, so that a misspelt key or a wrong type stops a run before
any work; ``__post_init__`` does the rest. Stages turn Hydra's tree into these dataclasses at once:
nothing below a stage sees OmegaConf.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from korlm.config.cluster import ClusterConfig
from korlm.config.commands.evaluate import (
    BootstrapConfig,
    CacheConfig,
    DynamicConfig,
    EvaluateSettings,
    run_list,
)
from korlm.config.commands.export import ExportFormat, ExportSettings
from korlm.config.commands.generate import GenerateMode, GenerateSettings
from korlm.config.commands.inference import UseSettings
from korlm.config.commands.report import ReportSettings
from korlm.config.commands.rescore import (
    ErrorRate,
    LengthUnit,
    ListFormat,
    Mixing,
    Normalize,
    RescoreSettings,
    ScoreKind,
)
from korlm.config.commands.score import Context, ScoreSettings, ScoreUnit
from korlm.config.commands.serve import ServeSettings
from korlm.config.data import (
    BatchesConfig,
    CorpusConfig,
    CorpusFormat,
    DocumentUnit,
    Encoding,
    Engine,
    JavaConfig,
    KkmaConfig,
    Mode,
    NsmcConfig,
    Quoting,
    SentencePieceConfig,
    Separator,
    TextConfig,
    TokenizerConfig,
    Unicode,
    VocabConfig,
    WorkerConfig,
)
from korlm.config.model import (
    GRUConfig,
    InitialState,
    LSTMConfig,
    ModelConfig,
    NeuralConfig,
    NgramConfig,
    Nonlinearity,
    OutputBias,
    RecurrentConfig,
    RNNConfig,
    Smoothing,
    Softmax,
    SubwordMode,
    WindowConfig,
)
from korlm.config.objective import check_objective
from korlm.config.sweeps import (
    LAUNCHERS,
    GridConfig,
    JoblibConfig,
    LauncherConfig,
    LocalConfig,
    Pruner,
    Sampler,
    SearchConfig,
    SlurmConfig,
    SubmititConfig,
)
from korlm.config.training import (
    AdagradConfig,
    AdamConfig,
    DecayConfig,
    Device,
    MuonConfig,
    OptimizerConfig,
    PlateauConfig,
    Precision,
    ResumeFrom,
    ScheduleConfig,
    SGDConfig,
    TrainerConfig,
)
from korlm.config.validation import MISSING, Group, path_field

__all__ = [
    "LAUNCHERS",
    "MISSING",
    "SCHEMAS",
    "AdagradConfig",
    "AdamConfig",
    "BatchesConfig",
    "BootstrapConfig",
    "CacheConfig",
    "ClusterConfig",
    "Context",
    "CorpusConfig",
    "CorpusFormat",
    "CorpusSettings",
    "DecayConfig",
    "Device",
    "DocumentUnit",
    "DynamicConfig",
    "Encoding",
    "Engine",
    "ErrorRate",
    "EvaluateSettings",
    "ExportFormat",
    "ExportSettings",
    "GRUConfig",
    "GenerateMode",
    "GenerateSettings",
    "GridConfig",
    "Group",
    "InitialState",
    "JavaConfig",
    "JoblibConfig",
    "KkmaConfig",
    "LSTMConfig",
    "LauncherConfig",
    "LengthUnit",
    "ListFormat",
    "LocalConfig",
    "Mixing",
    "Mode",
    "ModelConfig",
    "MuonConfig",
    "NeuralConfig",
    "NgramConfig",
    "Nonlinearity",
    "Normalize",
    "NsmcConfig",
    "OptimizerConfig",
    "OutputBias",
    "PlateauConfig",
    "Precision",
    "PrepareSettings",
    "Pruner",
    "Quoting",
    "RNNConfig",
    "RecurrentConfig",
    "ReportSettings",
    "RescoreSettings",
    "ResumeFrom",
    "SGDConfig",
    "Sampler",
    "ScheduleConfig",
    "ScoreKind",
    "ScoreSettings",
    "ScoreUnit",
    "SearchConfig",
    "SentencePieceConfig",
    "Separator",
    "ServeSettings",
    "SlurmConfig",
    "Smoothing",
    "Softmax",
    "SubmititConfig",
    "SubwordMode",
    "TextConfig",
    "TokenizerConfig",
    "TrainSettings",
    "TrainerConfig",
    "Unicode",
    "UseSettings",
    "VocabConfig",
    "WindowConfig",
    "WorkerConfig",
    "register",
    "run_list",
]


@dataclass
class CorpusSettings(Group):
    """What makes a prepared corpus of a corpus."""

    corpus: CorpusConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    vocab: VocabConfig = field(default_factory=VocabConfig)
    prepare: ClusterConfig = field(default_factory=ClusterConfig)
    outputs: str = path_field("outputs")
    # the folder for prepared corpora, runs and sweeps


@dataclass
class PrepareSettings(CorpusSettings):
    """python -m korlm.prepare: corpus -> prepared corpus."""

    report: bool = True
    # print what the corpus is like, and keep that beside it: statistics.json, frequencies.png


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


SCHEMAS: dict[str, dict[str, type]] = {
    "": {
        "prepare_schema": PrepareSettings,
        "train_schema": TrainSettings,
        "evaluate_schema": EvaluateSettings,
        "serve_schema": ServeSettings,
        "score_schema": ScoreSettings,
        "report_schema": ReportSettings,
        "export_schema": ExportSettings,
        "rescore_schema": RescoreSettings,
        "generate_schema": GenerateSettings,
    },
    "corpus": {"text_schema": CorpusConfig, "nsmc_schema": NsmcConfig},
    "tokenizer": {
        "plain_schema": TokenizerConfig,
        "kkma_schema": KkmaConfig,
        "java_schema": JavaConfig,
        "native_schema": WorkerConfig,
        "sentencepiece_schema": SentencePieceConfig,
    },
    "vocab": {"vocab_schema": VocabConfig},
    "batches": {"batches_schema": BatchesConfig},
    "model": {
        "lstm_schema": LSTMConfig,
        "gru_schema": GRUConfig,
        "rnn_schema": RNNConfig,
        "ngram_schema": NgramConfig,
        "window_schema": WindowConfig,
    },
    "optimizer": {
        "adam_schema": AdamConfig,
        "muon_schema": MuonConfig,
        "sgd_schema": SGDConfig,
        "adagrad_schema": AdagradConfig,
    },
    "schedule": {
        "constant_schema": ScheduleConfig,
        "decay_schema": DecayConfig,
        "plateau_schema": PlateauConfig,
    },
    "trainer": {"trainer_schema": TrainerConfig},
}


def register() -> None:
    """Tells Hydra the schemas that the files under conf/ begin with."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for group, schemas in SCHEMAS.items():
        for name, node in schemas.items():
            store.store(name=name, node=node, group=group or None)
    for name, node in LAUNCHERS.items():
        store.store(name=name, node=node, group="hydra/launcher")
    store.store(name="optuna_schema", node=SearchConfig, group="hydra/sweeper")
