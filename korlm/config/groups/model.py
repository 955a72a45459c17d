"""Settings of the language models."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import NamedGroup, fraction, setting


class InitialState(enum.Enum):
    """Initial states of a recurrent network."""

    zero = "zero"
    learned = "learned"
    noise = "noise"


class Nonlinearity(enum.Enum):
    """Activations of a simple recurrent network."""

    tanh = "tanh"
    relu = "relu"


class Smoothing(enum.Enum):
    """Smoothing methods of n-gram models."""

    kneser_ney = "kneser_ney"
    maximum_likelihood = "maximum_likelihood"
    add_k = "add_k"


class Softmax(enum.Enum):
    """Output layers of neural models."""

    full = "full"
    adaptive = "adaptive"


class OutputBias(enum.Enum):
    """Initial biases of the output layer."""

    zero = "zero"
    unigram = "unigram"


class SubwordMode(enum.Enum):
    """Layers whose token embeddings include the embeddings of the token's subwords."""

    none = "none"
    input = "input"
    both = "both"


@dataclass
class ModelConfig(NamedGroup):
    """Settings that all language models have."""

    _group: ClassVar[str] = "model"

    def min_parameters(self, vocab_size: int) -> int:
        """Return a lower bound of the number of parameters, to compare with a file."""
        return 0


@dataclass
class NeuralConfig(ModelConfig):
    """Embedding and output layer, which all neural models have."""

    embedding_dim: int = setting(200, "Size of token embeddings.", min=1, max=65_536)
    hidden_dim: int = setting(200, "Units of a hidden layer.", min=1, max=65_536)
    tie_weights: bool = setting(
        True,
        "Use the embedding matrix as the output layer (Press and Wolf 2017); the last layer then "
        "has embedding_dim units.",
    )
    subword_embedding: SubwordMode = setting(
        SubwordMode.none,
        "Add embeddings of a token's syllables and jamo to its embedding, in the input layer or in "
        "both layers.",
        renamed_from="spelling",
    )
    embedding_dropout: float = fraction(
        0.0,
        "Dropout of whole tokens of the embedding matrix (Gal and Ghahramani 2016, section 4.2).",
        renamed_from="dropout_embedding",
    )
    input_dropout: float = fraction(
        0.0, "Dropout between embedding and first layer.", renamed_from="dropout_input"
    )
    output_dropout: float = fraction(
        0.0, "Dropout between last layer and output layer.", renamed_from="dropout_output"
    )
    output_bias: OutputBias = setting(
        OutputBias.zero,
        "Initial output biases; unigram: log relative frequencies in train (Meister et al. 2023).",
    )
    softmax: Softmax = setting(
        Softmax.full,
        "adaptive: infrequent tokens in clusters (Grave et al. 2017), several times faster; both "
        "are exact.",
    )
    cutoffs: list[int] = setting(
        lambda: [2000, 10000],
        "First ids of the clusters of the adaptive softmax; ids are sorted by frequency.",
        min=4,
        increasing=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cutoffs:
            self._fail("cutoffs", "needs one number or more")
        if self.subword_embedding is SubwordMode.both and not self.tie_weights:
            self._fail(
                "subword_embedding",
                "needs model.tie_weights=true; use model.subword_embedding=input",
            )

    def without_effect(self) -> dict[str, str]:
        return {} if self.softmax is Softmax.adaptive else {"cutoffs": "model.softmax is full"}

    def min_parameters(self, vocab_size: int) -> int:
        return vocab_size * self.embedding_dim


@dataclass
class RecurrentConfig(NeuralConfig):
    """Recurrent layers, which RNN, GRU and LSTM have."""

    num_layers: int = setting(2, "Recurrent layers.", min=1, max=256)
    hidden_dropout: float = fraction(
        0.0,
        "Dropout between layers, not along time (Zaremba et al. 2014).",
        renamed_from="dropout_hidden",
    )
    recurrent_dropout: float = fraction(
        0.0,
        "Dropout of the state between time steps, one mask per sequence (Gal and Ghahramani 2016); "
        "slow.",
        renamed_from="dropout_recurrent",
    )
    weight_dropout: float = fraction(
        0.0,
        "DropConnect of the hidden-to-hidden matrices (Merity et al. 2018).",
        renamed_from="dropout_weight",
    )
    variational_dropout: bool = setting(
        False,
        "Use one dropout mask for all time steps (Gal and Ghahramani 2016).",
        renamed_from="variational",
    )
    layer_norm: bool = setting(
        False, "Layer normalization inside the recurrence (Ba et al. 2016); slow."
    )
    activation_regularization: float = setting(
        0.0,
        "AR: weight of the squared outputs of the last layer (Merity et al. 2018).",
        min=0,
        renamed_from="activation_penalty",
    )
    temporal_activation_regularization: float = setting(
        0.0,
        "TAR: weight of the squared change of these outputs between time steps (the same paper).",
        min=0,
        renamed_from="change_penalty",
    )
    initial_state: InitialState = setting(
        InitialState.zero,
        "State before the first token: zero, learned, or in training Gaussian noise around zero "
        "(Zimmermann et al. 2012).",
    )
    initial_state_std: float | None = setting(
        None, "Standard deviation of initial_state=noise; null: learned for each unit.", above=0
    )

    def without_effect(self) -> dict[str, str]:
        reasons = super().without_effect()
        if self.initial_state is not InitialState.noise:
            reasons["initial_state_std"] = "model.initial_state is not noise"
        if self.num_layers == 1:
            reasons["hidden_dropout"] = "it acts between layers, and there is one layer"
            if self.tie_weights:
                reasons["hidden_dim"] = (
                    "a single layer with model.tie_weights=true has "
                    f"model.embedding_dim={self.embedding_dim} units"
                )
        return reasons

    def without_head(self) -> RecurrentConfig:
        """Return the settings of an encoder without a softmax head, whose weights could be tied."""
        subwords = self.subword_embedding
        if subwords is SubwordMode.both:
            subwords = SubwordMode.input
        return dataclasses.replace(self, tie_weights=False, subword_embedding=subwords)

    def min_parameters(self, vocab_size: int) -> int:
        """See ``ModelConfig.min_parameters``.

        >>> LSTMConfig("lstm", embedding_dim=2, hidden_dim=10, num_layers=3).min_parameters(5)
        210
        """
        layers = self.num_layers - self.tie_weights  # tied, the last one may have embedding_dim
        return super().min_parameters(vocab_size) + layers * self.hidden_dim**2


@register("model", "lstm", builds="korlm.models.rnn:RecurrentLM")
@dataclass
class LSTMConfig(RecurrentConfig):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

    forget_bias: float = setting(
        1.0,
        "Initial bias of the forget gate: 1 or 2 (Jozefowicz et al. 2015); 0: random, as "
        "other biases.",
        min=0,
    )


@register("model", "gru", builds="korlm.models.rnn:RecurrentLM")
@dataclass
class GRUConfig(RecurrentConfig):
    """Gated recurrent unit (Cho et al. 2014)."""


@register("model", "rnn", builds="korlm.models.rnn:RecurrentLM")
@dataclass
class RNNConfig(RecurrentConfig):
    """Simple recurrent network (Elman 1990; Mikolov et al. 2010)."""

    nonlinearity: Nonlinearity = setting(Nonlinearity.tanh, "Activation of the hidden units.")


@register("model", "ngram", builds="korlm.models.ngram.model:NgramLM")
@dataclass
class NgramConfig(ModelConfig):
    """N-gram model with backoff: counted in one pass, not trained by gradients."""

    order: int = setting(5, "Tokens of the longest n-grams.", min=1, max=100)
    smoothing: Smoothing = setting(
        Smoothing.kneser_ney,
        "kneser_ney: interpolated and modified (Chen and Goodman 1998), the same numbers as "
        "KenLM's lmplz.",
    )
    add_k: float = setting(
        1.0, "Number added to each count by smoothing=add_k.", above=0, renamed_from="k"
    )
    prune: list[int] = setting(
        list,
        "Leave out n-grams that occur at most this often, by order from 1 on; the last number "
        "holds for longer ones. The first is 0: vocab.min_freq leaves out tokens. [0,0,1] is "
        "lmplz --prune 0 0 1.",
        min=0,
    )
    memory_gb: float | None = setting(
        None,
        "Memory for counting besides the model itself; what exceeds it is sorted on disk, in the "
        "folder of the variable TMPDIR. The result is the same. null: no limit.",
        unit="GB",
        above=0,
    )
    arpa: str | None = setting(
        None,
        "ARPA file, plain or .gz, to read instead of counting; its words must be the vocabulary.",
        is_path=True,
    )
    write_arpa: bool = setting(
        False, "Write the model to ngram.arpa.gz in the run directory, for KenLM and others."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prune:
            return
        if self.smoothing is not Smoothing.kneser_ney:
            self._fail("prune", "needs model.smoothing=kneser_ney")
        if self.prune[0] != 0:
            self._fail("prune", "must begin with 0: use vocab.min_freq to leave out tokens")
        if sorted(self.prune) != self.prune:
            self._fail("prune", "must not decrease: a longer n-gram needs the shorter ones in it")
        if len(self.prune) > self.order:
            self._fail("prune", f"has more numbers than model.order={self.order}")

    def threshold(self, order: int) -> int:
        """Return up to how many occurrences n-grams of an order are left out."""
        return self.prune[min(order, len(self.prune)) - 1] if self.prune else 0

    def without_effect(self) -> dict[str, str]:
        if self.arpa is not None:
            reason = "model.arpa is a counted model"
            return dict.fromkeys(("order", "smoothing", "add_k", "prune", "memory_gb"), reason)
        if self.smoothing is not Smoothing.add_k:
            return {"add_k": "only model.smoothing=add_k uses it"}
        return {}


@register("model", "window", builds="korlm.models.feedforward:WindowLM")
@dataclass
class WindowConfig(NeuralConfig):
    """Feed-forward network over a window of tokens (Bengio et al. 2003)."""

    window: int = setting(4, "Tokens of context.", min=1, max=4096)
    direct_connections: bool = setting(
        False, "Connect the window to the output layer directly (W in equation 1)."
    )
    hidden_dropout: float = fraction(
        0.0,
        "Dropout between tanh layer and last layer, which exists with tie_weights only.",
        renamed_from="dropout_hidden",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_dropout and not self.tie_weights:
            self._fail("hidden_dropout", "needs model.tie_weights=true; use model.output_dropout")

    def min_parameters(self, vocab_size: int) -> int:
        hidden_layer = self.window * self.embedding_dim * self.hidden_dim
        return super().min_parameters(vocab_size) + hidden_layer


@register("model", "transformer", builds="korlm.models.transformer:TransformerLM")
@dataclass
class TransformerConfig(NeuralConfig):
    """Decoder-only Transformer with a sliding window (Vaswani et al. 2017)."""

    num_layers: int = setting(2, "Transformer layers.", min=1, max=256)
    num_heads: int = setting(
        4, "Attention heads; embedding_dim must be a multiple of twice this number.", min=1
    )
    window: int = setting(
        128,
        "Tokens that each layer attends to, the newest included; the state holds keys and values "
        "of all but one.",
        min=2,
        max=65_536,
    )
    hidden_dropout: float = fraction(
        0.0, "Dropout of the outputs of attention and feed-forward network."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_dim % (2 * self.num_heads):
            self._fail(
                "embedding_dim",
                f"must be a multiple of {2 * self.num_heads}, twice model.num_heads",
            )

    def min_parameters(self, vocab_size: int) -> int:
        layer = 4 * self.embedding_dim**2 + 3 * self.embedding_dim * self.hidden_dim
        return super().min_parameters(vocab_size) + self.num_layers * layer
