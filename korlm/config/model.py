"""Settings of the language models."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import ClassVar

from korlm.config.validation import MISSING, Group, path_field, setting


class InitialState(enum.Enum):
    """What a recurrent network remembers before it has read anything."""

    zero = "zero"
    learned = "learned"


class Nonlinearity(enum.Enum):
    """Activation of a simple recurrent network."""

    tanh = "tanh"
    relu = "relu"


class Smoothing(enum.Enum):
    """How an n-gram model shares out probability among what it has and has not seen."""

    kneser_ney = "kneser_ney"
    maximum_likelihood = "maximum_likelihood"
    add_k = "add_k"


class Softmax(enum.Enum):
    """Output layers of the networks."""

    full = "full"
    adaptive = "adaptive"


class OutputBias(enum.Enum):
    """What the output layer predicts before it has learned anything."""

    zero = "zero"
    unigram = "unigram"


class SubwordMode(enum.Enum):
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
    subword_embedding: SubwordMode = setting(SubwordMode.none, renamed_from="spelling")
    # add what a token's syllables and jamo say to its embedding: as input, or also as output
    embedding_dropout: float = setting(0.0, renamed_from="dropout_embedding")
    # whole tokens of the embedding matrix (Gal and Ghahramani 2016, section 4.2)
    input_dropout: float = setting(0.0, renamed_from="dropout_input")
    # between embedding and first layer
    output_dropout: float = setting(0.0, renamed_from="dropout_output")
    # between last layer and output layer
    output_bias: OutputBias = OutputBias.zero
    # at the start; unigram: the log of each token's share of train (Meister et al. 2023)
    softmax: Softmax = Softmax.full
    # adaptive: rare tokens in clusters (Grave et al. 2017), several times faster; both are exact
    cutoffs: list[int] = field(default_factory=lambda: [2000, 10000])
    # adaptive: ids, in the order of falling frequency, at which the clusters begin

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "embedding_dim", "hidden_dim")
        self._at_most(65_536, "embedding_dim", "hidden_dim")
        if not self.cutoffs or self.cutoffs[0] < 4 or self.cutoffs != sorted(set(self.cutoffs)):
            self._fail("cutoffs", "must be numbers that rise, the first one 4 or more")
        self._share(
            *(
                key
                for key in self.__dataclass_fields__
                if key.endswith("_dropout") and key != "variational_dropout"
            )
        )
        if self.subword_embedding is SubwordMode.both and not self.tie_weights:
            self._fail(
                "subword_embedding",
                "needs model.tie_weights=true; use model.subword_embedding=input",
            )

    def without_effect(self) -> dict[str, str]:
        """See ``Group.without_effect``."""
        return {} if self.softmax is Softmax.adaptive else {"cutoffs": "model.softmax is full"}


@dataclass
class RecurrentConfig(NeuralConfig):
    """Recurrent layers: what RNN, GRU and LSTM have in common."""

    num_layers: int = 2
    hidden_dropout: float = setting(0.0, renamed_from="dropout_hidden")
    # between layers, never along time (Zaremba et al. 2014)
    recurrent_dropout: float = setting(0.0, renamed_from="dropout_recurrent")
    # on the state handed from step to step, one mask a sequence (Gal and Ghahramani 2016); slow
    weight_dropout: float = setting(0.0, renamed_from="dropout_weight")
    # on the hidden-to-hidden matrices (DropConnect; Merity et al. 2018)
    variational_dropout: bool = setting(False, renamed_from="variational")
    # one mask for all timesteps instead of one for each (Gal and Ghahramani 2016)
    layer_norm: bool = False
    # layer normalisation inside the recurrence (Ba et al. 2016); slow
    activation_regularization: float = setting(0.0, renamed_from="activation_penalty")
    # times the squares of the last layer's outputs, in training (AR; Merity et al. 2018)
    temporal_activation_regularization: float = setting(0.0, renamed_from="change_penalty")
    # times the squares of their change from one timestep to the next (TAR; the same)
    initial_state: InitialState = InitialState.zero
    bidirectional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "num_layers")
        self._at_most(256, "num_layers")
        for key in ("activation_regularization", "temporal_activation_regularization"):
            if not 0 <= getattr(self, key) < float("inf"):
                self._fail(key, "must be a finite number, 0 or more")
        if self.bidirectional:
            self._fail(
                "bidirectional",
                "a language model predicts the next token, and a bidirectional one would have seen "
                "it already; leave it false",
            )

    def without_effect(self) -> dict[str, str]:
        """See ``Group.without_effect``."""
        found = super().without_effect()
        if self.num_layers == 1:
            found["hidden_dropout"] = "there is one layer, and it lies between layers"
            if self.tie_weights:
                found["hidden_dim"] = (
                    "a single layer with model.tie_weights=true has "
                    f"model.embedding_dim={self.embedding_dim} units"
                )
        return found


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
class NgramConfig(ModelConfig):
    """N-gram model with backoff: counted in one pass, not trained by gradients."""

    _names: ClassVar[tuple[str, ...]] = ("ngram",)

    order: int = 5
    # tokens of the longest n-grams: a token is predicted from order - 1 before it
    smoothing: Smoothing = Smoothing.kneser_ney
    # kneser_ney: interpolated, modified (Chen and Goodman 1998), the same figures as KenLM's lmplz
    add_k: float = setting(1.0, renamed_from="k")
    # add_k: what is added to each count
    arpa: str | None = path_field(None)
    # an ARPA file, plain or .gz, to read in place of counting; its words must be the vocabulary's
    write_arpa: bool = False
    # writes the model to ngram.arpa.gz in the run directory, for KenLM and others

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "order")
        self._at_most(100, "order")
        self._above(0, "add_k")

    def without_effect(self) -> dict[str, str]:
        """See ``Group.without_effect``."""
        if self.arpa is not None:
            return dict.fromkeys(
                ("order", "smoothing", "add_k"), "model.arpa holds a counted model"
            )
        return (
            {} if self.smoothing is Smoothing.add_k else {"add_k": "it belongs to smoothing=add_k"}
        )


@dataclass
class WindowConfig(NeuralConfig):
    """Feed-forward network over a window of tokens (Bengio et al. 2003)."""

    _names: ClassVar[tuple[str, ...]] = ("window",)

    window: int = 4
    # tokens that are looked at
    direct_connections: bool = False
    # from the window to the output layer, past the tanh layer (W in equation 1)
    hidden_dropout: float = setting(0.0, renamed_from="dropout_hidden")
    # between tanh layer and last layer, which there is with tie_weights alone

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "window")
        self._at_most(4096, "window")
        if self.hidden_dropout and not self.tie_weights:
            self._fail("hidden_dropout", "needs model.tie_weights=true; use model.output_dropout")
