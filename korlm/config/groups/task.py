"""Settings of the tasks that a model is trained for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from korlm.config.registry import register
from korlm.config.validation import NamedGroup, fraction, setting
from korlm.text.label_schemes import Scheme


class Pooling(enum.Enum):
    """Ways to turn the hidden states of a text into one vector."""

    last = "last"
    max = "max"
    mean = "mean"
    concat = "concat"
    attention = "attention"


class ClassWeights(enum.Enum):
    """Weights of the classes in the loss."""

    equal = "equal"
    balanced = "balanced"


class TagLabels(enum.Enum):
    """Targets of a tagger."""

    tags = "tags"
    spans = "spans"
    spaces = "spaces"


class TagUnits(enum.Enum):
    """Units that have a label each."""

    token = "token"
    eojeol = "eojeol"


class TagHead(enum.Enum):
    """Layers that turn scores of labels into label sequences."""

    crf = "crf"
    softmax = "softmax"


class AttentionScore(enum.Enum):
    """Scores of an encoder output for a decoder state."""

    additive = "additive"
    general = "general"
    dot = "dot"


class ForcingSchedule(enum.Enum):
    """Courses of the teacher forcing ratio."""

    constant = "constant"
    linear = "linear"
    inverse_sigmoid = "inverse_sigmoid"


class DecodedMetric(enum.Enum):
    """Metrics of decoded texts."""

    exact_match = "exact_match"
    cer = "cer"
    chrf = "chrf"
    bleu = "bleu"


@dataclass
class TaskConfig(NamedGroup):
    """Settings that all tasks have."""

    _group: ClassVar[str] = "task"


@register("task", "language_modeling", builds="korlm.tasks.language_modeling:LanguageModelingTask")
@dataclass
class LanguageModelingConfig(TaskConfig):
    """Predict each token from the tokens before it."""


@dataclass
class EncoderTaskConfig(TaskConfig):
    """Settings of the tasks that read a whole text before they answer.

    Attributes:
        starts_from_language_model: whether the setting ``init`` applies to the task.
    """

    starts_from_language_model: ClassVar[bool] = True

    bidirectional: bool = setting(
        True, "Read the text in both directions; hidden units are per direction."
    )


@register("task", "classification", builds="korlm.tasks.classification:ClassificationTask")
@dataclass
class ClassificationConfig(EncoderTaskConfig):
    """Assign one of several classes to a text; corpus.label_column names the column of labels."""

    pooling: Pooling = setting(
        Pooling.concat,
        "Vector of a text: last: the last state of each direction; max, mean: over time; "
        "concat: these three (Howard and Ruder 2018); attention (Yang et al. 2016).",
    )
    class_weights: ClassWeights = setting(
        ClassWeights.equal,
        "balanced: each class has the same total weight in the training loss.",
    )
    label_smoothing: float = fraction(
        0.0, "Probability that is spread over all classes (Szegedy et al. 2016), in training."
    )
    max_length: int = setting(
        1000, "Longer texts keep their first and last tokens.", unit="tokens", min=2
    )


@register("task", "tagging", builds="korlm.tasks.tagging:TaggingTask")
@dataclass
class TaggingConfig(EncoderTaskConfig):
    """Label the tokens or eojeols of a text, find spans in it, or restore its spaces."""

    labels: TagLabels = setting(
        TagLabels.tags,
        "tags: a label for each unit, such as its part of speech; spans: parts of the text with a "
        "type, such as names; spaces: whether a space precedes a token (tokenizer=syllable, text "
        "without labels).",
    )
    units: TagUnits = setting(
        TagUnits.token,
        "Units that are labeled: the tokens of the tokenizer, or eojeols (words between blanks).",
    )
    scheme: Scheme = setting(
        Scheme.bio,
        "Labels of the units of a span: bio (B-X, I-X, O), bioes (also E-X and S-X) or io.",
    )
    head: TagHead = setting(
        TagHead.crf,
        "crf: the best sequence of labels (linear-chain CRF); softmax: the best label of each "
        "unit by itself.",
    )
    ngram_dim: int = setting(
        0,
        "Size of the embeddings of n-grams of tokens, features of the tokens at their ends; "
        "0: none.",
        min=0,
        max=65_536,
    )
    ngram_orders: list[int] = setting(
        lambda: [2, 3, 4], "Tokens of an n-gram.", min=1, max=20, increasing=True
    )
    ngram_buckets: int = setting(
        262_144, "Embeddings of n-grams; a hash assigns each n-gram to one.", min=1, max=1 << 24
    )
    ngram_dropout: float = fraction(0.3, "Probability of dropping an n-gram, in training.")

    linear_buckets: int = setting(
        0,
        "Rows of weights of linear features, which add to the scores of labels as in a CRF without "
        "a neural network: tokens, pairs and triples of tokens around a unit, kinds of characters, "
        "beginning and rest of its eojeol, tags; a hash assigns each feature to one. 0: none.",
        min=0,
        max=1 << 24,
    )
    linear_dropout: float = fraction(
        0.3, "Probability of leaving out a linear feature, in training."
    )
    kkma_dim: int = setting(
        0,
        "Size of the embeddings of the part-of-speech tags of Kkma's morphemes, features of their "
        "characters with any tokenizer; 0: none.",
        min=0,
        max=65_536,
    )
    encoder_dim: int = setting(
        0,
        "Units per direction of an encoder that reads the states of the language models of init, "
        "whose weights stay as they are (Akbik et al. 2018); 0: the encoder itself starts from "
        "them.",
        min=0,
        max=65_536,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is TagLabels.spaces and self.units is TagUnits.eojeol:
            self._fail("units", "must be token for task.labels=spaces, which predicts eojeols")
        if self.labels is TagLabels.spaces and self.kkma_dim:
            self._fail("kkma_dim", "must be 0 for task.labels=spaces: Kkma reads text with spaces")
        if self.ngram_dim and not self.ngram_orders:
            self._fail("ngram_orders", "needs one number or more")

    def without_effect(self) -> dict[str, str]:
        ignored = {}
        if self.labels is not TagLabels.spans:
            ignored["scheme"] = "it applies to task.labels=spans"
        if not self.ngram_dim:
            for key in ("ngram_orders", "ngram_buckets", "ngram_dropout"):
                ignored[key] = "it applies to task.ngram_dim greater than 0"
        if not self.linear_buckets:
            ignored["linear_dropout"] = "it applies to task.linear_buckets greater than 0"
        return ignored


@register("task", "seq2seq", builds="korlm.tasks.seq2seq.task:Seq2SeqTask")
@dataclass
class Seq2SeqConfig(EncoderTaskConfig):
    """Write a text for a given one; corpus.target_column names the column of texts to write."""

    starts_from_language_model: ClassVar[bool] = False

    share_embedding: bool = setting(
        True, "Use one embedding matrix for the tokens of sources and targets."
    )
    attention: AttentionScore = setting(
        AttentionScore.general,
        "additive (Bahdanau et al. 2015), general or dot (Luong et al. 2015). For each target "
        "token additive stores hidden_dim numbers per source token: for long texts lower "
        "batches.max_tokens.",
    )
    input_feeding: bool = setting(
        False,
        "The decoder also reads its last attentional vector (Luong et al. 2015); training is then "
        "slower.",
    )
    teacher_forcing: float = setting(
        1.0,
        "Probability of reading the given token in training instead of the model's own; with a "
        "schedule, that at its end.",
        min=0,
        max=1,
    )
    forcing_schedule: ForcingSchedule = setting(
        ForcingSchedule.constant,
        "Course of that probability from 1 to teacher_forcing (Bengio et al. 2015).",
    )
    label_smoothing: float = fraction(
        0.0,
        "Probability that is spread over all tokens (Szegedy et al. 2016), in training; if above "
        "0, memory grows with target tokens x vocabulary.",
    )
    num_beams: int = setting(5, "Texts that the search keeps at each length; 1: greedy.", min=1)
    length_penalty: float = setting(
        0.0,
        "Alpha of the length penalty of Wu et al. 2016; larger favors long texts.",
        min=0,
        max=10,
    )
    coverage_penalty: float = setting(
        0.0, "Beta of the coverage penalty of the same paper.", min=0, max=10
    )
    max_length_ratio: float = setting(
        2.0,
        "Tokens of a written text at most, per token of the source with its <eos>, plus 10.",
        above=0,
    )
    select_by: DecodedMetric = setting(
        DecodedMetric.exact_match, "Metric of decoded valid texts that selects the best model."
    )
    max_length: int = setting(
        200,
        "Sources and targets that are longer, <eos> included, and their pairs are left out of "
        "training.",
        unit="tokens",
        min=2,
    )

    def without_effect(self) -> dict[str, str]:
        ignored = {}
        if self.teacher_forcing == 1:
            ignored["forcing_schedule"] = "it applies to task.teacher_forcing below 1"
        if self.num_beams == 1:
            for key in ("length_penalty", "coverage_penalty"):
                ignored[key] = "it applies to task.num_beams of 2 or more"
        return ignored
