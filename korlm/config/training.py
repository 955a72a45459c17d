"""Settings of training: optimizer, schedule, trainer."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.validation import MAX_THREADS, MISSING, Group, setting


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


class ResumeFrom(enum.Enum):
    """Checkpoint that a broken-off run goes on from."""

    last = "last"
    best = "best"


@dataclass
class OptimizerConfig(Group):
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
class MuonConfig(AdamConfig):
    """Muon (Jordan et al. 2024) for matrices between hidden units, AdamW for everything else."""

    _names: ClassVar[tuple[str, ...]] = ("muon",)

    matrix_lr: float = 0.02
    # the largest rate of these matrices; `lr` is that of AdamW, and both follow the schedule
    momentum: float = 0.95
    # of these matrices

    def __post_init__(self) -> None:
        super().__post_init__()
        self._above(0, "matrix_lr")
        self._share("momentum")


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
class ScheduleConfig(Group):
    """How the learning rate goes from step to step; optimizer.lr is its peak."""

    _group: ClassVar[str] = "schedule"
    _names: ClassVar[tuple[str, ...]] = ("constant",)

    name: str = MISSING
    warmup_ratio: float = setting(0.0, renamed_from="warmup_share")
    # share of all steps in which the rate rises to its peak
    start_factor: float = 0.04
    # rate at step 0 / peak, if warmup_ratio is above 0

    def __post_init__(self) -> None:
        self._one_of("name", *self._names)
        self._share("warmup_ratio")
        self._share("start_factor", one=True)

    def without_effect(self) -> dict[str, str]:
        """See ``Group.without_effect``."""
        return {} if self.warmup_ratio else {"start_factor": "schedule.warmup_ratio is 0"}


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
class TrainerConfig(Group):
    """How long, where and with what care the model is trained."""

    _group: ClassVar[str] = "trainer"

    device: Device = Device.auto
    precision: Precision = Precision.auto
    # auto: bf16 where the processor or GPU multiplies it natively, else fp32, which GPUs may round
    # to TF32; fp32: fp32 throughout; bf16: works on every CPU, but without such instructions it is
    # slower than fp32, and LSTM layers stay in fp32
    threads: int | None = None
    # of the CPU, in each process; null: all cores that are left to it. Small operations take fewer:
    # steps of a recurrent network with 20 rows and 200 units take two of them
    epochs: int = 30
    # passes over train; with fewer than 500 optimizer steps in all, n-grams are often better
    max_steps: int | None = None
    # stop after so many optimizer steps, whatever the epochs
    clip_norm: float | None = 1.0
    # gradients are scaled down to this L2 norm; null: never
    early_stopping_patience: int | None = setting(None, renamed_from="patience")
    # validations without improvement before training stops early; null: never
    eval_every: int | None = setting(None, renamed_from="valid_every")
    # steps between validations; null: once an epoch
    log_every: int = 10
    # steps between points in TensorBoard
    checkpoint_every_minutes: float = setting(10.0, renamed_from="checkpoint_minutes")
    # last.pt is also written this often within an epoch
    sample_tokens: int = 60
    # length of the text sampled at each validation; 0: none
    projector_tokens: int = setting(2000, renamed_from="projected_tokens")
    # the most frequent ones, whose embeddings TensorBoard's projector shows; 0: none

    def __post_init__(self) -> None:
        self._at_least(
            1,
            "threads",
            "epochs",
            "max_steps",
            "eval_every",
            "log_every",
            "early_stopping_patience",
        )
        self._at_most(MAX_THREADS, "threads")
        self._at_most(1_000_000, "epochs", "projector_tokens")
        self._at_most(100_000, "sample_tokens")
        self._at_least(0, "sample_tokens", "projector_tokens")
        self._above(0, "clip_norm", "checkpoint_every_minutes")
