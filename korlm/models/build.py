"""Settings -> language model: one place that knows all kinds."""

from __future__ import annotations

from korlm.config import ModelConfig, NgramConfig, RecurrentConfig
from korlm.models.base import LanguageModel
from korlm.models.ngram_lm import NgramLM
from korlm.models.rnn_lm import RecurrentLM


def build_model(config: ModelConfig, vocab_size: int) -> LanguageModel:
    """The untrained model of the settings.

    Args:
        config: which kind, and its sizes.
        vocab_size: V; id 0 is padding.
    """
    if isinstance(config, NgramConfig):
        return NgramLM(config, vocab_size)
    assert isinstance(config, RecurrentConfig)
    return RecurrentLM(config, vocab_size)
