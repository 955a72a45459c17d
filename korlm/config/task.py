"""Settings of the tasks that a model is trained for."""

from __future__ import annotations

import enum


class AttentionScore(enum.Enum):
    """Scores of an encoder output for a decoder state."""

    additive = "additive"
    general = "general"
    dot = "dot"


class ForcingSchedule(enum.Enum):
    """Course of the teacher forcing ratio over a training."""

    constant = "constant"
    linear = "linear"
    inverse_sigmoid = "inverse_sigmoid"
