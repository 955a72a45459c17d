"""Typed settings: one dataclass per group of conf/, with the checks of its values.

YAML holds values, the dataclasses here hold types and checks, everything else holds behaviour. Each
file of a group begins with its schema, so that a misspelt key or a wrong type stops a run before
any work; ``__post_init__`` does the rest. Stages turn Hydra's tree into these dataclasses at once:
nothing below a stage sees OmegaConf.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
from korlm.config.validation import MAX_SEED, MISSING, Group, setting

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
    """Settings of a prepared corpus."""

    corpus: CorpusConfig = setting(MISSING)
    tokenizer: TokenizerConfig = setting(MISSING)
    vocab: VocabConfig = setting(VocabConfig)
    prepare: ClusterConfig = setting(ClusterConfig)
    outputs: str = setting("outputs", "Folder of prepared corpora, runs and sweeps.", is_path=True)


@dataclass
class PrepareSettings(CorpusSettings):
    """Tokenize a Korean corpus, build its vocabulary and write its token ids.

    Writes outputs/prepared/<corpus>-<tokenizer>-<fingerprint> and prints its name; what is there
    already is not prepared again. Then prints a report (counts, duplicates, longest lines, unknown
    words by vocabulary size), also written there as statistics.json and frequencies.png.

      python -m korlm.prepare                                           the texts of konlpy
      python -m korlm.prepare corpus=text 'corpus.files=[FOLDER]'       your text, split by document
      python -m korlm.prepare tokenizer=syllable vocab.min_freq=1       syllables, not morphemes
      python -m korlm.prepare report=false                              without the report
      python -m korlm.prepare prepare.cluster=slurm prepare.workers=64  tokenize in SLURM jobs
    """

    report: bool = setting(True, "Print a report about the corpus, and write it there.")


@dataclass
class TrainSettings(CorpusSettings):
    """Train a language model on a Korean corpus.

    Prepares the corpus unless that is done already, trains, evaluates the best model, and writes
    outputs/runs/<date>_<time>: checkpoints, metrics.json, train.log, tensorboard.

      python -m korlm.train                                       the texts of konlpy
      python -m korlm.train corpus=text 'corpus.files=[FOLDER]'   your text, split by document
      python -m korlm.train model=gru optimizer.lr=0.01 name=gru  another model
      python -m korlm.train resume=outputs/runs/DIR               resume a run
      python -m korlm.train -m model=ngram,window,rnn,gru,lstm    a sweep, with a table at its end
      python -m korlm.train -m sweep=lstm_small                   a hyperparameter search
      python -m korlm.train -m resume=outputs/sweeps/DIR          resume a sweep or a search
      python -m korlm.train -m seed=1,2,3 objective=test.loss     sort the table by another metric
      python -m korlm.train -m seed=1,2,3 hydra/launcher=joblib   parallel jobs; submitit_slurm: on
                                                                  a cluster
      torchrun --nproc-per-node 2 -m korlm.train                  two GPUs, or two processes
      tensorboard --logdir outputs                                watch runs and sweeps
    """

    batches: BatchesConfig = setting(MISSING)
    model: ModelConfig = setting(MISSING)
    optimizer: OptimizerConfig = setting(MISSING)
    schedule: ScheduleConfig = setting(MISSING)
    trainer: TrainerConfig = setting(TrainerConfig)
    seed: int = setting(1, "Random seed of parameters, dropout and batches.", min=0, max=MAX_SEED)
    name: str | None = setting(None, "Part of the name of the run directory.")
    prepared: str | None = setting(
        None, "Prepared corpus to train on, instead of corpus, tokenizer and vocab.", is_path=True
    )
    resume: str | None = setting(
        None, "Directory of an interrupted run to resume; with -m of a sweep.", is_path=True
    )
    resume_from: ResumeFrom = setting(
        ResumeFrom.last,
        "Checkpoint to resume from; best: if last.pt is damaged, with a new optimizer state, so "
        "that results differ from those of an uninterrupted run.",
    )
    objective: str = setting(
        "valid.perplexity",
        "SPLIT.KEY of metrics.json that sorts the table of a sweep and that searches minimize "
        "(tokens_per_second: maximize).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_objective(self.objective)
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            self._fail("name", "must consist of letters, digits, _, . and -")


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
