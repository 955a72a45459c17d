"""Settings of the language models."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.base import MISSING, Group


class InitialState(enum.Enum):
    """What a recurrent network remembers before it has read anything."""

    zero = "zero"
    learned = "learned"


class Nonlinearity(enum.Enum):
    """Activation of a simple recurrent network."""

    tanh = "tanh"
    relu = "relu"


class Spelling(enum.Enum):
    """Where a token's embedding also says how the token is spelt."""

    none = "none"
    input = "input"
    both = "both"


@dataclass
class ModelConfig(Group):
    """Which language model."""

    _group: ClassVar[str] = "model"
    _names: ClassVar[tuple[str, ...]] = ()

    name: str = MISSING

    def __post_init__(self) -> None:
        self._one_of("name", *self._names)


@dataclass
class NeuralConfig(ModelConfig):
    """Embedding, something that reads, output layer: what all networks have in common."""

    embedding_dim: int = 200
    hidden_dim: int = 200
    tie_weights: bool = True
    # output layer = embedding matrix (Press and Wolf 2017); the last layer has embedding_dim units
    spelling: Spelling = Spelling.none
    # add what a token's syllables and jamo say to its embedding: as input, or also as output
    dropout_embedding: float = 0.0
    # whole tokens of the embedding matrix (Gal and Ghahramani 2016, section 4.2)
    dropout_input: float = 0.0
    # between embedding and first layer
    dropout_output: float = 0.0
    # between last layer and output layer

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "embedding_dim", "hidden_dim")
        self._share(*(key for key in self.__dataclass_fields__ if key.startswith("dropout_")))
        if self.spelling is Spelling.both and not self.tie_weights:
            self._fail("spelling", "needs model.tie_weights=true; use model.spelling=input")


@dataclass
class RecurrentConfig(NeuralConfig):
    """Recurrent layers: what RNN, GRU and LSTM have in common."""

    num_layers: int = 2
    dropout_hidden: float = 0.0
    # between layers, never along time (Zaremba et al. 2014)
    dropout_recurrent: float = 0.0
    # on the state handed from step to step, one mask a sequence (Gal and Ghahramani 2016); slow
    dropout_weight: float = 0.0
    # on the hidden-to-hidden matrices (DropConnect; Merity et al. 2018)
    variational: bool = False
    # one mask for all timesteps instead of one for each (Gal and Ghahramani 2016)
    layer_norm: bool = False
    # layer normalisation inside the recurrence (Ba et al. 2016); slow
    initial_state: InitialState = InitialState.zero
    bidirectional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "num_layers")
        if self.bidirectional:
            self._fail(
                "bidirectional",
                "a language model predicts the next token, and a bidirectional one would have seen "
                "it already; leave it false",
            )


@dataclass
class LSTMConfig(RecurrentConfig):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

    _names: ClassVar[tuple[str, ...]] = ("lstm",)

    forget_bias: float = 1.0
    # bias of the forget gate at the start: 1 or 2 (Jozefowicz et al. 2015), 0: PyTorch's default

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(0, "forget_bias")


@dataclass
class GRUConfig(RecurrentConfig):
    """Gated recurrent unit (Cho et al. 2014)."""

    _names: ClassVar[tuple[str, ...]] = ("gru",)


@dataclass
class RNNConfig(RecurrentConfig):
    """Simple recurrent network (Elman 1990; Mikolov et al. 2010)."""

    _names: ClassVar[tuple[str, ...]] = ("rnn",)

    nonlinearity: Nonlinearity = Nonlinearity.tanh


@dataclass
class WindowConfig(NeuralConfig):
    """Feed-forward network over a window of tokens (Bengio et al. 2003)."""

    _names: ClassVar[tuple[str, ...]] = ("window",)

    window: int = 4
    # tokens that are looked at
    direct_connections: bool = False
    # from the window to the output layer, past the tanh layer (W in equation 1)
    dropout_hidden: float = 0.0
    # between tanh layer and last layer, which there is with tie_weights alone

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "window")
        if self.dropout_hidden and not self.tie_weights:
            self._fail("dropout_hidden", "needs model.tie_weights=true; use model.dropout_output")
