"""Settings of the tasks that a model is trained for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import MISSING, Group, setting


class Pooling(enum.Enum):
    """Ways to turn the hidden states of a text into one vector."""

    last = "last"
    max = "max"
    mean = "mean"
    concat = "concat"
    attention = "attention"


class ClassWeights(enum.Enum):
    """Weights of the classes in the loss."""

    equal = "equal"
    balanced = "balanced"


@dataclass
class TaskConfig(Group):
    """Settings that all tasks have."""

    _group: ClassVar[str] = "task"

    name: str = setting(MISSING, "Name of the task; the group selects it.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_name()


@register("task", "language_modeling", builds="korlm.tasks.language_modeling:LanguageModelingTask")
@dataclass
class LanguageModelingConfig(TaskConfig):
    """Predict each token from the tokens before it."""


@dataclass
class EncoderTaskConfig(TaskConfig):
    """Settings of the tasks that read a whole text before they answer."""

    bidirectional: bool = setting(
        True, "Read the text in both directions; hidden units are per direction."
    )


@register("task", "classification", builds="korlm.tasks.classification:ClassificationTask")
@dataclass
class ClassificationConfig(EncoderTaskConfig):
    """Assign one of several classes to a text; corpus.label_column names the column of labels."""

    pooling: Pooling = setting(
        Pooling.concat,
        "Vector of a text: the last state of each direction, the maximum or the mean over time, "
        "concat: all three (Howard and Ruder 2018), or attention (Yang et al. 2016).",
    )
    class_weights: ClassWeights = setting(
        ClassWeights.equal,
        "balanced: each class has the same total weight in the training loss.",
    )
    label_smoothing: float = setting(
        0.0,
        "Probability that is spread over all classes (Szegedy et al. 2016), in training.",
        min=0,
        below=1,
    )
    max_length: int = setting(
        1000, "Longer texts keep their first and last tokens.", unit="tokens", min=2
    )
