"""Typed settings: one dataclass per group of conf/, with the checks of its values.

YAML holds values, the dataclasses here hold types and checks, everything else holds behaviour. Each
file of a group begins with its schema, so that a misspelt key or a wrong type stops a run before
any work; ``__post_init__`` does the rest. Stages turn Hydra's tree into these dataclasses at once:
nothing below a stage sees OmegaConf.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from korlm.errors import ConfigError

MISSING: Any = "???"  # OmegaConf's mark of a value that must be given


class Document(enum.Enum):
    """What one document of a text file is."""

    file = "file"
    blank_line = "blank_line"
    line = "line"


class Layout(enum.Enum):
    """How a file is laid out."""

    auto = "auto"
    txt = "txt"
    tsv = "tsv"
    csv = "csv"
    jsonl = "jsonl"


class Encoding(enum.Enum):
    """Encodings of Korean text files."""

    utf8 = "utf8"
    cp949 = "cp949"


class Mode(enum.Enum):
    """How ids become batches."""

    stream = "stream"
    sentence = "sentence"


class InitialState(enum.Enum):
    """What a recurrent network remembers before it has read anything."""

    zero = "zero"
    learned = "learned"


class Nonlinearity(enum.Enum):
    """Activation of a simple recurrent network."""

    tanh = "tanh"
    relu = "relu"


class Device(enum.Enum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(enum.Enum):
    """Number format of the matrix products in training; evaluation is always in fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Engine(enum.Enum):
    """What runs Kkma."""

    fast = "fast"
    konlpy = "konlpy"


class _Group:
    """Range checks shared by all groups; a failure names key, value and limit."""

    _group: ClassVar[str] = ""

    def _fail(self, key: str, limit: str) -> None:
        path = f"{self._group}.{key}" if self._group else key
        value = getattr(self, key)
        shown = value.value if isinstance(value, enum.Enum) else value
        raise ConfigError(f"{path}={shown}: {limit}")

    def _one_of(self, key: str, *allowed: str) -> None:
        if getattr(self, key) not in allowed:
            self._fail(key, f"must be {' or '.join(allowed)}; other choices are made by the group")

    def _at_least(self, low: float, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and not value >= low:
                self._fail(key, f"must be {low} or more")

    def _at_most(self, high: float, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and not value <= high:
                self._fail(key, f"must be {high} or less")

    def _above(self, low: float, *keys: str) -> None:
        for key in keys:
            value = getattr(self, key)
            if value is not None and not (value > low and value < float("inf")):
                self._fail(key, f"must be a finite number above {low}")

    def _share(self, *keys: str, one: bool = False) -> None:
        for key in keys:
            value = getattr(self, key)
            if not (0 <= value < 1 or (one and value == 1)):
                self._fail(key, f"must lie between 0 and 1, {'both' if one else '1 not'} included")


@dataclass
class CorpusConfig(_Group):
    """Which text is read, what a document is, and how documents are dealt to the splits."""

    _group: ClassVar[str] = "corpus"

    name: str = MISSING
    # stands in the name of the prepared folder
    files: list[str] = field(default_factory=list)
    # files, folders or globs whose documents are dealt to train, valid and test by a stable hash
    train: list[str] = field(default_factory=list)
    # files, folders or globs that belong to train as they are; the same for the next two
    valid: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    layout: Layout = Layout.auto
    # of all files; auto: what the ending of each says, .txt where it says nothing
    document: Document = Document.file
    # of .txt files: one document a file, parted by blank lines, or one a line
    encoding: Encoding = Encoding.utf8
    text_column: str = "text"
    # of .tsv, .csv and .jsonl: the column or key that holds the text; a number counts columns
    # from 1 in a file without a header
    document_column: str = ""
    # of .tsv, .csv and .jsonl: rows with the same value here are one document; empty: each row
    valid_share: float = 0.1
    # share of the documents of `files` that go to valid
    test_share: float = 0.1
    # share of the documents of `files` that go to test
    source: str = ""
    # where the text can be had; told when a file is missing

    def __post_init__(self) -> None:
        self._share("valid_share", "test_share")
        if self.valid_share + self.test_share >= 1:
            self._fail(
                "valid_share", f"leaves nothing for train beside test_share={self.test_share}"
            )
        if not self.name or any(c in self.name for c in "/\\ \t\n"):
            self._fail("name", "must be a word without blanks or slashes")
        if not (self.files or self.train):
            where = f" ({self.source})" if self.source else ""
            example = (
                "give corpus.files=[FILE,FOLDER,'GLOB'] or corpus.train=[...] corpus.valid=[...]"
            )
            raise ConfigError(f"corpus.files=[]: no text was named{where}; {example}")


@dataclass
class NsmcConfig(CorpusConfig):
    """The Naver sentiment movie corpus (Park 2015): 200,000 film reviews in two ratings files."""

    path: str = ""
    # the folder that holds ratings_train.txt and ratings_test.txt

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError(
                "corpus.path is empty: fetch ratings_train.txt and ratings_test.txt from "
                f"{self.source} and give corpus.path=FOLDER"
            )
        super().__post_init__()


@dataclass
class TokenizerConfig(_Group):
    """Which tokenizer, for those that need no settings."""

    _group: ClassVar[str] = "tokenizer"
    _names: ClassVar[tuple[str, ...]] = ("eojeol", "syllable")

    name: str = MISSING

    def __post_init__(self) -> None:
        self._one_of("name", *self._names)


@dataclass
class KkmaConfig(TokenizerConfig):
    """KoNLPy's Kkma in child processes, each of which owns one JVM."""

    _names: ClassVar[tuple[str, ...]] = ("kkma",)

    engine: Engine = Engine.fast
    # konlpy: KoNLPy's own, five to ten times slower; same tokens wherever it comes to an end
    workers: int = 1
    # child processes, each with a JVM and a dictionary of 0.3 GB
    threads: int | None = None
    # analyzers in each JVM; null: one for each core that this process may use, over all workers
    heap: int | None = None
    # largest heap of each JVM in MB; null: 768 and 128 for each thread
    seconds_per_line: float = 10.0
    # of a line or a part of it; one that takes longer costs its worker a restart and is parted
    guard: bool = True
    # bound the work on each word and cut those that are too much (아 sixteen times) into pieces
    cache_mb: int = 2048
    # size of outputs/cache, which keeps what became of each line for other corpora; 0: no cache

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "workers", "threads")
        self._at_most(256, "workers", "threads")
        self._at_least(512, "heap")
        self._above(0, "seconds_per_line")
        self._at_least(0, "cache_mb")


@dataclass
class VocabConfig(_Group):
    """Which tokens of train get an id of their own; all others become <unk>."""

    _group: ClassVar[str] = "vocab"

    min_freq: int = 2
    # a token must stand in train this often
    max_size: int | None = None
    # keep the most frequent tokens only; the four special tokens come on top
    lower: bool = False
    # lower-case all tokens
    numbers: bool = False
    # map every number to the one token <num>

    def __post_init__(self) -> None:
        self._at_least(1, "min_freq", "max_size")


@dataclass
class BatchesConfig(_Group):
    """How ids become batches."""

    _group: ClassVar[str] = "batches"

    mode: Mode = MISSING
    batch_size: int = 20
    # columns of the stream, or sentences
    eval_batch_size: int = 10
    # the same in validation and test, where the state starts anew for each column
    bptt_length: int = 35
    # stream: tokens through which gradients flow back; sentence: longer sentences are cut there

    def __post_init__(self) -> None:
        self._at_least(1, "batch_size", "eval_batch_size", "bptt_length")


@dataclass
class RecurrentConfig(_Group):
    """Embedding, recurrent layers, linear layer: what RNN, GRU and LSTM have in common."""

    _group: ClassVar[str] = "model"
    _names: ClassVar[tuple[str, ...]] = ("lstm", "gru", "rnn")

    name: str = MISSING
    embedding_dim: int = 200
    hidden_dim: int = 200
    num_layers: int = 2
    tie_weights: bool = True
    # output layer = embedding matrix (Press and Wolf 2017); the last layer has embedding_dim units
    dropout_embedding: float = 0.0
    # whole tokens of the embedding matrix (Gal and Ghahramani 2016, section 4.2)
    dropout_input: float = 0.0
    # between embedding and first layer
    dropout_hidden: float = 0.0
    # between layers, never along time (Zaremba et al. 2014)
    dropout_output: float = 0.0
    # between last layer and output layer
    dropout_recurrent: float = 0.0
    # on the state handed from step to step, one mask a sequence (Gal and Ghahramani 2016); slow
    dropout_weight: float = 0.0
    # on the hidden-to-hidden matrices (DropConnect; Merity et al. 2018)
    variational: bool = False
    # one mask for all timesteps instead of one for each (Gal and Ghahramani 2016)
    layer_norm: bool = False
    # layer normalisation inside the recurrence (Ba et al. 2016); slow
    initial_state: InitialState = InitialState.zero
    bidirectional: bool = False

    def __post_init__(self) -> None:
        self._one_of("name", *self._names)
        self._at_least(1, "embedding_dim", "hidden_dim", "num_layers")
        self._share(*(key for key in self.__dataclass_fields__ if key.startswith("dropout_")))
        if self.bidirectional:
            self._fail(
                "bidirectional",
                "a language model predicts the next token, and a bidirectional one would have seen "
                "it already; leave it false",
            )


@dataclass
class LSTMConfig(RecurrentConfig):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

    _names: ClassVar[tuple[str, ...]] = ("lstm",)

    forget_bias: float = 1.0
    # bias of the forget gate at the start: 1 or 2 (Jozefowicz et al. 2015), 0: PyTorch's default

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(0, "forget_bias")


@dataclass
class GRUConfig(RecurrentConfig):
    """Gated recurrent unit (Cho et al. 2014)."""

    _names: ClassVar[tuple[str, ...]] = ("gru",)


@dataclass
class RNNConfig(RecurrentConfig):
    """Simple recurrent network (Elman 1990; Mikolov et al. 2010)."""

    _names: ClassVar[tuple[str, ...]] = ("rnn",)

    nonlinearity: Nonlinearity = Nonlinearity.tanh


@dataclass
class OptimizerConfig(_Group):
    """What every optimizer has."""

    _group: ClassVar[str] = "optimizer"
    _names: ClassVar[tuple[str, ...]] = ()

    name: str = MISSING
    lr: float = MISSING
    # the largest learning rate of the schedule
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._one_of("name", *self._names)
        self._above(0, "lr")
        self._at_least(0, "weight_decay")


@dataclass
class AdamConfig(OptimizerConfig):
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019)."""

    _names: ClassVar[tuple[str, ...]] = ("adamw", "adam")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("beta1", "beta2")
        self._above(0, "eps")


@dataclass
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    _names: ClassVar[tuple[str, ...]] = ("sgd",)

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("momentum")
        if self.nesterov and self.momentum == 0:
            self._fail("nesterov", "needs optimizer.momentum above 0")


@dataclass
class AdagradConfig(OptimizerConfig):
    """Adagrad (Duchi et al. 2011)."""

    _names: ClassVar[tuple[str, ...]] = ("adagrad",)

    eps: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        self._above(0, "eps")


@dataclass
class ScheduleConfig(_Group):
    """How the learning rate goes from step to step; optimizer.lr is its peak."""

    _group: ClassVar[str] = "schedule"
    _names: ClassVar[tuple[str, ...]] = ("constant",)

    name: str = MISSING
    warmup_share: float = 0.0
    # share of all steps in which the rate rises to its peak
    start_factor: float = 0.04
    # rate at step 0 / peak, if warmup_share is above 0

    def __post_init__(self) -> None:
        self._one_of("name", *self._names)
        self._share("warmup_share")
        self._share("start_factor", one=True)


@dataclass
class DecayConfig(ScheduleConfig):
    """Cosine (Loshchilov and Hutter 2017) and one-cycle (Smith 2018) end at a share of the peak."""

    _names: ClassVar[tuple[str, ...]] = ("one_cycle", "cosine")

    end_factor: float = 0.0
    # rate at the last step / peak

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("end_factor", one=True)


@dataclass
class PlateauConfig(ScheduleConfig):
    """The rate falls when valid loss has stopped falling."""

    _names: ClassVar[tuple[str, ...]] = ("plateau",)

    factor: float = 0.25
    patience: int = 1
    # validations without improvement before the rate falls
    end_factor: float = 0.001
    # the rate stays above this share of the peak

    def __post_init__(self) -> None:
        super().__post_init__()
        self._share("factor", "end_factor")
        self._at_least(0, "patience")


@dataclass
class TrainerConfig(_Group):
    """How long, where and with what care the model is trained."""

    _group: ClassVar[str] = "trainer"

    device: Device = Device.auto
    precision: Precision = Precision.auto
    # auto: bf16 where the processor or GPU multiplies it natively, else fp32
    threads: int | None = 1
    # of PyTorch on the CPU; null: PyTorch's own choice. Recurrent steps are too small to share: of
    # 2 x 200 units a step took 25 ms on one thread and 53 on two with a vocabulary of 1,200, 96 and
    # 106 with 17,500 (2026-11-21). One thread also gives the very same numbers every time.
    epochs: int = 30
    max_steps: int | None = None
    # stop after so many optimizer steps, whatever the epochs
    clip_norm: float | None = 1.0
    # gradients are scaled down to this L2 norm; null: never
    patience: int | None = None
    # validations without improvement before training stops early; null: never
    valid_every: int | None = None
    # steps between validations; null: once an epoch
    log_every: int = 10
    # steps between points in TensorBoard
    checkpoint_minutes: float = 10.0
    # last.pt is also written this often within an epoch
    sample_tokens: int = 60
    # length of the text sampled at each validation; 0: none

    def __post_init__(self) -> None:
        self._at_least(1, "threads", "epochs", "max_steps", "valid_every", "log_every", "patience")
        self._at_least(0, "sample_tokens")
        self._above(0, "clip_norm", "checkpoint_minutes")


@dataclass
class PrepareSettings(_Group):
    """python -m korlm.prepare: corpus -> prepared corpus."""

    corpus: CorpusConfig = MISSING
    tokenizer: TokenizerConfig = MISSING
    vocab: VocabConfig = field(default_factory=VocabConfig)
    outputs: str = "outputs"
    # the folder for prepared corpora, runs and sweeps


@dataclass
class TrainSettings(PrepareSettings):
    """python -m korlm.train: corpus or prepared corpus -> run."""

    batches: BatchesConfig = MISSING
    model: RecurrentConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    schedule: ScheduleConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    seed: int = 1
    name: str | None = None
    # goes into the name of the run directory
    prepared: str | None = None
    # a prepared corpus to train on as it is, instead of corpus, tokenizer and vocab
    resume: str | None = None
    # the directory of a broken-off run to go on with

    def __post_init__(self) -> None:
        self._at_least(0, "seed")
        if self.seed >= 1 << 63:
            self._fail("seed", "must be below 2^63")
        if self.name is not None and not re.fullmatch(r"[\w.-]+", self.name):
            self._fail("name", "must be made of letters, digits, _, . and - alone")


SCHEMAS: dict[str, dict[str, type]] = {
    "": {"prepare_schema": PrepareSettings, "train_schema": TrainSettings},
    "corpus": {"text_schema": CorpusConfig, "nsmc_schema": NsmcConfig},
    "tokenizer": {"plain_schema": TokenizerConfig, "kkma_schema": KkmaConfig},
    "vocab": {"vocab_schema": VocabConfig},
    "batches": {"batches_schema": BatchesConfig},
    "model": {"lstm_schema": LSTMConfig, "gru_schema": GRUConfig, "rnn_schema": RNNConfig},
    "optimizer": {
        "adam_schema": AdamConfig,
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
