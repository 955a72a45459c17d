"""Build the language model of the settings."""

from __future__ import annotations

from collections.abc import Sequence

from korlm.config import ModelConfig, NeuralConfig, OutputBias, registry
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM


def build_model(
    config: ModelConfig,
    vocab_size: int,
    tokens: Sequence[str] | None = None,
    counts: Sequence[int] | None = None,
) -> LanguageModel:
    """Return the untrained model of the settings, ``builds(config, vocab_size, tokens)``.

    ``counts`` of all ids in train are for ``output_bias=unigram``; None if weights will be loaded.
    """
    model: LanguageModel = registry.builder("model", config.name)(config, vocab_size, tokens)
    unigram = isinstance(config, NeuralConfig) and config.output_bias is OutputBias.unigram
    if unigram and counts is not None and isinstance(model, NeuralLM):
        model.output.init_bias_from_counts(counts)
    return model
