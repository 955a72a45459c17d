"""Settings of training: batches, optimizer, schedule, trainer."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import MAX_THREADS, MISSING, Group, NamedGroup, fraction, setting
from korlm.utils.errors import ConfigError


class Mode(enum.Enum):
    """Ways to cut token ids into batches."""

    stream = "stream"
    sentence = "sentence"


@register("batches", "batches")
@dataclass
class BatchesConfig(Group):
    """Batches of token ids."""

    _group: ClassVar[str] = "batches"

    mode: Mode = setting(MISSING, "stream: columns of one long text; sentence: padded lines.")
    batch_size: int = setting(20, "Columns of the stream, or sentences.", min=1, max=1_000_000)
    eval_batch_size: int = setting(
        10,
        "batch_size of validation and test, where each column starts with the initial state.",
        min=1,
        max=1_000_000,
    )
    bptt_length: int = setting(
        35,
        "stream: tokens of truncated backpropagation through time; sentence: longer sentences are "
        "cut.",
        unit="tokens",
        min=1,
        max=1_000_000,
    )
    random_start: bool = setting(
        False,
        "stream: in training, begin each column at a random token in each epoch; its beginning "
        "follows its end (Press 2019).",
    )
    max_tokens: int = setting(
        16_384,
        "Tokens with padding that are computed at a time, of sources and of targets each, which "
        "bounds memory; the gradients of the parts of a larger batch are summed. Not for "
        "task=language_modeling, see bptt_length.",
        unit="tokens",
        min=1,
        max=1_000_000_000,
    )


class Device(enum.Enum):
    """Devices of a model."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(enum.Enum):
    """Number formats of matrix products in training; evaluation always uses fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class ResumeFrom(enum.Enum):
    """Checkpoints that an interrupted run can be resumed from."""

    last = "last"
    best = "best"


class TrackerName(enum.Enum):
    """Experiment trackers."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"


@dataclass
class OptimizerConfig(NamedGroup):
    """Settings that all optimizers have."""

    _group: ClassVar[str] = "optimizer"

    lr: float = setting(MISSING, "Peak learning rate of the schedule.", above=0)
    weight_decay: float = setting(0.0, "Weight decay.", min=0)
    layer_lr_decay: float = setting(
        1.0,
        "Learning rate of a layer / that of the layer above it, from the head down to the "
        "embedding: discriminative fine-tuning with 1 / 2.6 (Howard and Ruder 2018).",
        above=0,
        max=1,
    )


@register("optimizer", "adamw", builds="korlm.training.optimizers:build_adam")
@register("optimizer", "adam", builds="korlm.training.optimizers:build_adam")
@dataclass
class AdamConfig(OptimizerConfig):
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019)."""

    beta1: float = fraction(0.9, "Decay of the mean of gradients.")
    beta2: float = fraction(0.999, "Decay of the mean of squared gradients.")
    eps: float = setting(1e-8, "Term added to the denominator.", above=0)


@register("optimizer", "muon", builds="korlm.training.optimizers:build_muon")
@dataclass
class MuonConfig(AdamConfig):
    """Muon (Jordan et al. 2024) for matrices between hidden units, AdamW for all else."""

    matrix_lr: float = setting(
        0.02, "Peak learning rate of Muon; lr is that of AdamW. Both follow the schedule.", above=0
    )
    momentum: float = fraction(0.95, "Momentum of Muon.")


@register("optimizer", "sgd", builds="korlm.training.optimizers:build_sgd")
@dataclass
class SGDConfig(OptimizerConfig):
    """Stochastic gradient descent with momentum."""

    momentum: float = fraction(0.0, "Momentum.")
    nesterov: bool = setting(False, "Use Nesterov momentum.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            self._fail("nesterov", "needs optimizer.momentum above 0")


@register("optimizer", "adagrad", builds="korlm.training.optimizers:build_adagrad")
@dataclass
class AdagradConfig(OptimizerConfig):
    """Adagrad (Duchi et al. 2011)."""

    eps: float = setting(1e-10, "Term added to the denominator.", above=0)


@register("schedule", "constant")
@dataclass
class ScheduleConfig(NamedGroup):
    """Learning rate by step, relative to its peak optimizer.lr."""

    _group: ClassVar[str] = "schedule"

    warmup_ratio: float = fraction(
        0.0, "Fraction of all steps used for warmup.", renamed_from="warmup_share"
    )
    start_factor: float = setting(
        0.04, "Learning rate at step 0 / peak, with warmup.", min=0, max=1
    )

    def without_effect(self) -> dict[str, str]:
        return {} if self.warmup_ratio else {"start_factor": "schedule.warmup_ratio is 0"}


@register("schedule", "slanted_triangular")
@register("schedule", "one_cycle")
@register("schedule", "cosine")
@dataclass
class DecayConfig(ScheduleConfig):
    """Cosine (Loshchilov and Hutter 2017), one-cycle (Smith 2018), slanted triangular."""

    end_factor: float = setting(0.0, "Learning rate at the last step / peak.", min=0, max=1)


@register("schedule", "plateau")
@dataclass
class PlateauConfig(ScheduleConfig):
    """Lower the learning rate when the metric that selects the best model stops improving."""

    factor: float = fraction(0.25, "Factor of each reduction.")
    patience: int = setting(
        1,
        "Validations in a row without improvement that are tolerated; the next one reduces.",
        min=0,
    )
    end_factor: float = fraction(0.001, "Smallest learning rate / peak.")


@register("trainer", "trainer")
@dataclass
class TrainerConfig(Group):
    """Length, device and bookkeeping of training."""

    _group: ClassVar[str] = "trainer"

    device: Device = setting(
        Device.auto, "Device of the model; auto: CUDA, then MPS, then the CPU."
    )
    precision: Precision = setting(
        Precision.auto,
        "auto: bf16 where the hardware multiplies it natively, else fp32, which GPUs may round to "
        "TF32; fp32: always fp32; bf16: slower than fp32 without native instructions, and LSTM "
        "layers stay in fp32 there.",
    )
    threads: int | None = setting(
        None,
        "CPU threads of each process; null: all available cores. Small operations use fewer.",
        min=1,
        max=MAX_THREADS,
    )
    epochs: int = setting(
        30,
        "Passes over train; with fewer than 500 steps in all, n-gram models are often better.",
        min=1,
        max=1_000_000,
    )
    max_steps: int | None = setting(None, "Limit of optimizer steps; null: epochs decide.", min=1)
    clip_norm: float | None = setting(
        1.0, "Largest L2 norm of gradients; null: no clipping.", above=0
    )
    gradual_unfreezing: bool = setting(
        False,
        "Train the head alone in the first epoch, and one more layer from the top in each further "
        "epoch (Howard and Ruder 2018).",
    )
    early_stopping_patience: int | None = setting(
        None,
        "Validations without improvement before training stops; null: never.",
        min=1,
        renamed_from="patience",
    )
    eval_every: int | None = setting(
        None,
        "Interval between validations; null: an epoch.",
        unit="steps",
        min=1,
        renamed_from="valid_every",
    )
    tracker: list[TrackerName] = setting(
        lambda: [TrackerName.tensorboard],
        "Experiment trackers that record the run: tensorboard, mlflow, wandb; []: none.",
    )
    log_every: int = setting(10, "Interval between points in trackers.", unit="steps", min=1)
    checkpoint_every_minutes: float = setting(
        10.0,
        "Interval between checkpoints last.pt within an epoch.",
        unit="minutes",
        above=0,
        renamed_from="checkpoint_minutes",
    )
    sample_tokens: int = setting(
        60,
        "Length of the text that a language model samples at each validation; 0: no samples. Other "
        "tasks show examples of valid instead.",
        unit="tokens",
        min=0,
        max=100_000,
    )
    projector_tokens: int = setting(
        2000,
        "Most frequent tokens whose embeddings TensorBoard's projector shows; 0: none.",
        unit="tokens",
        min=0,
        max=1_000_000,
        renamed_from="projected_tokens",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.tracker)) < len(self.tracker):
            names = ",".join(name.value for name in self.tracker)
            raise ConfigError(f"trainer.tracker=[{names}]: name each tracker once")

    def without_effect(self) -> dict[str, str]:
        if TrackerName.tensorboard in self.tracker:
            return {}
        keys = ("sample_tokens", "projector_tokens")
        return dict.fromkeys(keys, "trainer.tracker has no tensorboard, which shows them")
