"""Small models of every kind with every option."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from korlm.config import (
    InitialState,
    ModelConfig,
    NeuralConfig,
    NgramConfig,
    Nonlinearity,
    RecurrentConfig,
    Smoothing,
    Softmax,
    SubwordMode,
    TransformerConfig,
    WindowConfig,
    registry,
)
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM
from korlm.models.ngram.model import NgramLM
from korlm.models.registry import build_model
from korlm.modules.base import State

TOKENS = ["<pad>", "<unk>", "<bos>", "<eos>", "가", "각", "간다", "다", "가나다", "ab", "나가"]
VOCAB_SIZE = len(TOKENS)

# Every registered model, with two kinds of rnn: kind -> settings from options.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "rnn": {"tanh": {}, "relu": {"nonlinearity": Nonlinearity.relu}}
}
KINDS: dict[str, functools.partial[ModelConfig]] = {
    kind: functools.partial(schema, name=name, **fixed)
    for name, schema in registry.schemas("model").items()
    for kind, fixed in VARIANTS.get(name, {name: {}}).items()
}


def kinds_of(schema: type[ModelConfig]) -> list[str]:
    """Return the kinds whose settings are of a class."""
    return [kind for kind, config in KINDS.items() if issubclass(config.func, schema)]


CELLS = kinds_of(RecurrentConfig)
NETWORKS = kinds_of(NeuralConfig)

DROPOUTS = {
    "embedding_dropout": 0.3,
    "input_dropout": 0.4,
    "hidden_dropout": 0.5,
    "output_dropout": 0.4,
    "recurrent_dropout": 0.3,
    "weight_dropout": 0.5,
}

# Embedding and hidden size differ, so that confusing them raises an error.
SIZES = {"embedding_dim": 5, "hidden_dim": 7, "num_layers": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"embedding_dim": 6, "hidden_dim": 6, "num_layers": 1},
    "tied": {**SIZES, "tie_weights": True},
    "untied": {**SIZES, "tie_weights": False},
    "learned_state": {**SIZES, "initial_state": InitialState.learned},
    "layer_norm": {**SIZES, "layer_norm": True},
    "adaptive": {**SIZES, "softmax": Softmax.adaptive, "cutoffs": [5, 8]},
    "spelling_input": {**SIZES, "subword_embedding": SubwordMode.input, "tie_weights": False},
    "spelling_both": {**SIZES, "subword_embedding": SubwordMode.both, "num_layers": 1},
    "spelling_adaptive": {
        **SIZES,
        "subword_embedding": SubwordMode.both,
        "softmax": Softmax.adaptive,
        "cutoffs": [5, 8],
        "num_layers": 1,
    },
    "everything": {
        **SIZES,
        **DROPOUTS,
        "subword_embedding": SubwordMode.both,
        "variational_dropout": True,
        "layer_norm": True,
        "initial_state": InitialState.learned,
    },
}

# Orders and smoothings of n-gram models. Unsmoothed models have infinite losses in most contexts;
# tests/models/ngram/ tests them.
NGRAMS: dict[str, dict[str, Any]] = {
    "order_3": {"order": 3},
    "order_5": {"order": 5},
    "add_k": {"order": 3, "smoothing": Smoothing.add_k, "add_k": 0.1},
}


def random_text(count: int, seed: int) -> np.ndarray:
    """Return random ids of all tokens that occur in text; their frequencies fall geometrically."""
    ids = [1, *range(3, VOCAB_SIZE)]
    shares = 0.8 ** np.arange(len(ids))
    return np.random.default_rng(seed).choice(ids, count, p=shares / shares.sum())


WINDOW = {"embedding_dim": 5, "hidden_dim": 7, "window": 3}
WINDOW_OPTIONS: dict[str, dict[str, Any]] = {
    "untied": {**WINDOW, "tie_weights": False},
    "direct": {**WINDOW, "tie_weights": False, "direct_connections": True},
    "tied": {**WINDOW, "input_dropout": 0.4, "hidden_dropout": 0.5},
    "tied_direct": {**WINDOW, "direct_connections": True},
    "spelling": {**WINDOW, "subword_embedding": SubwordMode.both},
    "wider_than_the_batch": {**WINDOW, "window": 9},
}

TRANSFORMER = {"embedding_dim": 8, "hidden_dim": 7, "num_heads": 2, "window": 4}
TRANSFORMER_OPTIONS: dict[str, dict[str, Any]] = {
    "tied": TRANSFORMER,
    "untied": {**TRANSFORMER, "tie_weights": False, "num_layers": 1},
    "wider_than_the_batch": {**TRANSFORMER, "window": 9},
    "dropouts": {
        **TRANSFORMER,
        **{name: p for name, p in DROPOUTS.items() if hasattr(TransformerConfig, name)},
        "subword_embedding": SubwordMode.both,
    },
    "adaptive": {**TRANSFORMER, "softmax": Softmax.adaptive, "cutoffs": [5, 8]},
}

# Networks that another package registers.
NETWORK = {"embedding_dim": 5, "hidden_dim": 7}
NETWORK_OPTIONS: dict[str, dict[str, Any]] = {
    "tied": NETWORK,
    "untied": {**NETWORK, "tie_weights": False},
    "dropouts": {**NETWORK, "embedding_dropout": 0.3, "input_dropout": 0.4, "output_dropout": 0.4},
    "adaptive": {**NETWORK, "softmax": Softmax.adaptive, "cutoffs": [5, 8]},
    "subwords": {**NETWORK, "subword_embedding": SubwordMode.both},
}

# Config class -> sets of options; the first class that matches a kind is used.
OPTIONS_OF: dict[type[ModelConfig], dict[str, dict[str, Any]]] = {
    RecurrentConfig: OPTIONS,
    WindowConfig: WINDOW_OPTIONS,
    TransformerConfig: TRANSFORMER_OPTIONS,
    NgramConfig: NGRAMS,
    NeuralConfig: NETWORK_OPTIONS,
    ModelConfig: {"default": {}},
}


def options_of(kind: str) -> dict[str, dict[str, Any]]:
    """Return the sets of options that a kind is tested with."""
    return next(OPTIONS_OF[schema] for schema in OPTIONS_OF if kind in kinds_of(schema))


# Embedding and softmax do not depend on the cell: they are tested with the LSTM.
CELL_OPTIONS = ("tied", "layer_norm", "everything")


def cases_of(kinds: list[str]) -> list[tuple[str, str]]:
    """Return kinds with their sets of options, for ``make_model``."""
    return [
        (kind, option)
        for kind in kinds
        for option in options_of(kind)
        if kind not in ("tanh", "relu", "gru") or option in CELL_OPTIONS
    ]


# Models that are trained by gradients, and models that are counted.
COUNTED = cases_of(kinds_of(NgramConfig))
TRAINED = [("pairs", "plain"), *(case for case in cases_of(list(KINDS)) if case not in COUNTED)]


class PairsLM(LanguageModel):
    """A bigram and skip-gram model that implements only the abstract methods of ``LanguageModel``.

    Its state is an integer tensor, like that of an n-gram model.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.last = nn.Parameter(torch.empty(vocab_size, vocab_size))
        self.before_last = nn.Parameter(torch.empty(vocab_size, vocab_size))

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, dtype=torch.int64),)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        (last,) = self.initial_state(inputs.shape[0]) if state is None else state
        before = torch.cat([last[:, None], inputs[:, :-1]], 1)
        logits = self.last[inputs] + self.before_last[before]
        ends = torch.full((len(inputs),), inputs.shape[1]) if lengths is None else lengths
        return logits.log_softmax(-1), (inputs.gather(1, ends[:, None] - 1)[:, 0],)


def scatter(module: nn.Module, seed: int = 1) -> None:
    """Set all parameters to random values, since zeros and ones hide errors."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def make_config(cell: str, **options: Any) -> Any:
    """Return the settings of a model."""
    return KINDS[cell](**options)


def make_model(cell: str, option: str = "plain", seed: int = 1, **changes: Any) -> LanguageModel:
    """Return a model in evaluation mode with random parameters and a named set of options."""
    model: LanguageModel
    if cell == "pairs":
        model = PairsLM(VOCAB_SIZE)
    else:
        config = make_config(cell, **options_of(cell)[option])
        known = {name: value for name, value in changes.items() if hasattr(config, name)}
        model = build_model(dataclasses.replace(config, **known), VOCAB_SIZE, TOKENS)
    if isinstance(model, NgramLM):
        model.fit(random_text(600, seed))
        return model.eval()
    scatter(model, seed)
    return model.eval()


def make_network(cell: str, option: str = "plain") -> NeuralLM:
    """Return a network as ``make_model`` does; skip the test if it has no ONNX step."""
    model = make_model(cell, option)
    assert isinstance(model, NeuralLM)
    if type(model).export_step is NeuralLM.export_step:
        pytest.skip("a model without an ONNX step")
    return model
