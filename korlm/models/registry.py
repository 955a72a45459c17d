"""Build the language model of the settings."""

from __future__ import annotations

from collections.abc import Sequence

from korlm.config import ModelConfig, NgramConfig, OutputBias, RecurrentConfig, WindowConfig
from korlm.models.base import LanguageModel
from korlm.models.feedforward import WindowLM
from korlm.models.neural import NeuralLM
from korlm.models.ngram.model import NgramLM
from korlm.models.rnn import RecurrentLM


def build_model(
    config: ModelConfig,
    vocab_size: int,
    tokens: Sequence[str] | None = None,
    counts: Sequence[int] | None = None,
) -> LanguageModel:
    """Return a new, untrained model.

    Args:
        config: kind and sizes.
        vocab_size: V; id 0 is padding.
        tokens: the V tokens, in the order of their ids; required for subwords.
        counts: of all ids in train, for ``output_bias=unigram``; None if weights will be loaded.
    """
    if isinstance(config, NgramConfig):
        return NgramLM(config, vocab_size)
    model: NeuralLM
    if isinstance(config, WindowConfig):
        model = WindowLM(config, vocab_size, tokens)
    else:
        assert isinstance(config, RecurrentConfig)
        model = RecurrentLM(config, vocab_size, tokens)
    if counts is not None and config.output_bias is OutputBias.unigram:
        model.output.init_bias_from_counts(counts)
    return model


def fewest_weights(config: ModelConfig, vocab_size: int) -> int:
    """Return a lower bound of the number of weights, to check a file before building its model.

    >>> from korlm.config import LSTMConfig
    >>> fewest_weights(LSTMConfig(name="lstm", embedding_dim=2, hidden_dim=10, num_layers=3), 5)
    210
    """
    if isinstance(config, NgramConfig):
        return 0
    if isinstance(config, WindowConfig):
        layers = config.window * config.embedding_dim * config.hidden_dim
    else:
        assert isinstance(config, RecurrentConfig)
        layers = (config.num_layers - 1) * config.hidden_dim**2  # the last may have embedding_dim
        if not config.tie_weights:
            layers += config.hidden_dim**2
    return vocab_size * config.embedding_dim + layers
