"""Settings of batches of token ids."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import MISSING, Group, setting


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
