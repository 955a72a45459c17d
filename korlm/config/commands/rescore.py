"""Settings of n-best rescoring."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from korlm.config.commands.inference import InferenceSettings
from korlm.config.registry import register
from korlm.config.validation import MISSING, setting


class ListFormat(enum.Enum):
    """File formats of n-best lists."""

    auto = "auto"
    text = "text"
    espnet = "espnet"
    espnet_json = "espnet_json"
    jsonl = "jsonl"


class ScoreKind(enum.Enum):
    """Signs of a recognizer's scores: log-probabilities or costs."""

    log_prob = "log_prob"
    cost = "cost"


class Mixing(enum.Enum):
    """Mixtures of models; auto: linear if all have the same vocabulary, else log-linear."""

    auto = "auto"
    linear = "linear"
    log_linear = "log_linear"


class LengthUnit(enum.Enum):
    """Units of the length bonus."""

    token = "token"
    eojeol = "eojeol"
    char = "char"


class Normalize(enum.Enum):
    """Divisors of the model's log-probability of a hypothesis."""

    none = "none"
    token = "token"
    eojeol = "eojeol"


class ErrorRate(enum.Enum):
    """Error rates: of characters with or without blanks, or of eojeols."""

    cer = "cer"
    cer_no_blanks = "cer_no_blanks"
    wer = "wer"


class RescoreContext(enum.Enum):
    """Contexts that a hypothesis is predicted from."""

    utterance = "utterance"
    recording = "recording"


RECORDING_PATTERN = r"(.+)[-_]([0-9]+(?:\.[0-9]+)?)[-_][0-9]+(?:\.[0-9]+)?"  # name-begin-end


@register("", "rescore")
@dataclass
class RescoreSettings(InferenceSettings):
    r"""Rescore n-best lists of a speech recognizer with a trained model.

    Sorts hypotheses by score + lm_weight * ln p(text) + length_bonus * length, best first. Lists go
    to standard output or output=FILE; error rates and tuned weights to standard error.

      python -m korlm.rescore run=outputs/runs/DIR nbest=dev.txt tune=dev.ref output=dev.out
      python -m korlm.rescore run=outputs/runs/DIR nbest=test.txt lm_weight=0.4 length_bonus=1.2
      python -m korlm.rescore run=outputs/runs/DIR nbest=exp/decode/logdir one_best=true  of ESPnet
      python -m korlm.rescore run=outputs/runs/DIR nbest=words.txt 'scores=[ac_cost]' \
          score_kind=cost                                                                 of Kaldi
      python -m korlm.rescore run=outputs/runs/DIR nbest=dev.jsonl ngram=outputs/runs/NGRAM
      python -m korlm.rescore run=outputs/runs/DIR nbest=test.txt context=recording
    """

    nbest: str = setting(
        MISSING,
        "N-best lists: a file, ESPnet's folder of 1best_recog, 2best_recog, ..., or ESPnet1's "
        "data.json.",
        is_path=True,
    )
    format: ListFormat = setting(
        ListFormat.auto,
        'text: lines "utterance score text"; jsonl; espnet: a folder; espnet_json: data.json of '
        "ESPnet1; auto: detect.",
    )
    score_kind: ScoreKind = setting(
        ScoreKind.log_prob,
        "log_prob: natural logarithms, higher is better; cost: lower is better, as in Kaldi.",
    )
    score_field: str = setting(
        "score", "Score key of hypotheses in JSON; am_score excludes the recognizer's own model."
    )
    numbered: bool = setting(
        False, "Hypotheses are named utterance-1, utterance-2, ..., as by Kaldi's nbest-to-linear."
    )
    scores: list[str] = setting(
        list,
        'Files of "utterance-1 score", such as Kaldi\'s ac_cost and lm_cost; the lists are then '
        "numbered and hold no scores.",
        is_path=True,
    )
    score_scales: list[float] = setting(
        list, "Factors of scores before they are added; []: 1.", renamed_from="scales"
    )
    ngram: str | None = setting(
        None, "Another run to mix with, usually of model=ngram.", is_path=True
    )
    mix: list[str] = setting(list, "More runs to mix with.", is_path=True)
    mixing: Mixing = setting(
        Mixing.auto,
        "linear: of probabilities, token by token; log_linear: of log-probabilities of hypotheses.",
    )
    mixture_weights: list[float] = setting(
        list,
        "Weights of run, ngram and mix, in this order, summing to 1; []: equal, or tuned.",
        min=0,
        max=1,
        renamed_from="shares",
    )
    lm_weight: float = setting(
        0.5,
        "Weight of the model's log-probability, relative to the score.",
        min=0,
        renamed_from="weight",
    )
    length_bonus: float = setting(0.0, "Bonus per length_unit.", renamed_from="bonus")
    length_unit: LengthUnit = setting(
        LengthUnit.token, "Unit of length_bonus.", renamed_from="length"
    )
    normalize: Normalize = setting(
        Normalize.none,
        "Divide the model's log-probability by the tokens or eojeols of the hypothesis.",
    )
    open_vocabulary: bool = setting(
        True, "Add the cost of spelling to a token that its id does not determine."
    )
    context: RescoreContext = setting(
        RescoreContext.utterance,
        "What a hypothesis is predicted from: utterance: itself; recording: also the chosen "
        "hypotheses of the utterances before it in its recording. All lists are kept in memory.",
    )
    recording_pattern: str = setting(
        RECORDING_PATTERN,
        "Regular expression of an utterance's name, for context=recording; its first group is the "
        "recording, its second one, if there is one, the time when the utterance begins. Without "
        "times, utterances are taken in the order of the file.",
    )
    recording_field: str | None = setting(
        None,
        "JSON key of the recording, such as recording_id; null: it is in the utterance's name.",
    )
    tune: str | None = setting(
        None,
        'References to tune mixture_weights, lm_weight and length_bonus on: "utterance text", JSON '
        "lines, ESPnet1's data.json or icefall's recogs file.",
        is_path=True,
    )
    tune_metric: ErrorRate = setting(
        ErrorRate.cer, "Error rate that tune minimizes.", renamed_from="target"
    )
    reference: str | None = setting(
        None, "References to compute error rates with, without tuning.", is_path=True
    )
    output: str = setting("-", "File, or folder for espnet; -: standard output.", is_path=True)
    one_best: bool = setting(
        False, 'Write "utterance text" of the best hypothesis only.', renamed_from="best"
    )
    batch_size: int = setting(
        1000, "Hypotheses scored at once.", unit="hypotheses", min=1, max=1_000_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score_scales and len(self.score_scales) != len(self.scores):
            self._fail("score_scales", f"must be as many as scores, {len(self.scores)}")
        num_models = 1 + (self.ngram is not None) + len(self.mix)
        if self.mixture_weights:
            if len(self.mixture_weights) != num_models:
                self._fail("mixture_weights", f"must be as many as models, {num_models}")
            if abs(sum(self.mixture_weights) - 1) >= 1e-3:
                self._fail("mixture_weights", "must sum to 1")
        self._check_context()
        if self.tune is not None and self.reference is not None:
            self._fail("reference", "leave it out, tune reports error rates as well")

    def _check_context(self) -> None:
        try:
            num_groups = re.compile(self.recording_pattern).groups
        except re.error as error:
            self._fail("recording_pattern", f"is not a regular expression ({error})")
            raise
        if num_groups not in (1, 2):
            self._fail("recording_pattern", f"must have 1 or 2 groups (...), not {num_groups}")
        if self.context is RescoreContext.recording and self.tune is not None:
            self._fail("context", "weights are tuned with context=utterance; then use them with it")

    def without_effect(self) -> dict[str, str]:
        if self.context is RescoreContext.recording:
            return {}
        return dict.fromkeys(("recording_pattern", "recording_field"), "context is utterance")
