"""Settings -> language model: one place that knows all kinds."""

from __future__ import annotations

from collections.abc import Sequence

from korlm.config import ModelConfig, NgramConfig, RecurrentConfig, WindowConfig
from korlm.models.base import LanguageModel
from korlm.models.ngram_lm import NgramLM
from korlm.models.rnn_lm import RecurrentLM
from korlm.models.window_lm import WindowLM


def build_model(
    config: ModelConfig, vocab_size: int, tokens: Sequence[str] | None = None
) -> LanguageModel:
    """The untrained model of the settings.

    Args:
        config: which kind, and its sizes.
        vocab_size: V; id 0 is padding.
        tokens: of all ids, for models that look at their spelling.
    """
    if isinstance(config, NgramConfig):
        return NgramLM(config, vocab_size)
    if isinstance(config, WindowConfig):
        return WindowLM(config, vocab_size, tokens)
    assert isinstance(config, RecurrentConfig)
    return RecurrentLM(config, vocab_size, tokens)
