"""Settings of rescoring: which lists, what counts how much, what is to be found out."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from korlm.config.commands.inference import UseSettings
from korlm.config.validation import path_field, paths_field, setting


class ListFormat(enum.Enum):
    """How n-best lists are laid out."""

    auto = "auto"
    text = "text"
    espnet = "espnet"
    espnet_json = "espnet_json"
    jsonl = "jsonl"


class ScoreKind(enum.Enum):
    """What the scores of a recogniser are: the more the better, or the less."""

    log_prob = "log_prob"
    cost = "cost"


class Mixing(enum.Enum):
    """How several models become one: auto is linear where they know the same vocabulary."""

    auto = "auto"
    linear = "linear"
    log_linear = "log_linear"


class LengthUnit(enum.Enum):
    """What the bonus is paid for."""

    token = "token"
    eojeol = "eojeol"
    char = "char"


class Normalize(enum.Enum):
    """What the model's log-probability of a hypothesis is divided by."""

    none = "none"
    token = "token"
    eojeol = "eojeol"


class ErrorRate(enum.Enum):
    """Of characters with or without blanks, or of eojeols."""

    cer = "cer"
    cer_no_blanks = "cer_no_blanks"
    wer = "wer"


@dataclass
class RescoreSettings(UseSettings):
    """python -m korlm.rescore: run and n-best lists -> lists in a better order."""

    nbest: str = path_field()
    # the n-best lists: a file, or ESPnet's folder of 1best_recog, 2best_recog, ...; a file may be
    # ESPnet1's data.json
    format: ListFormat = ListFormat.auto
    # text: "utterance score text" a line; jsonl; espnet: a folder; espnet_json: data.json of
    # ESPnet1; auto: what it looks like
    score_kind: ScoreKind = ScoreKind.log_prob
    # log_prob: natural logs, more is better; cost: less is better, as in Kaldi
    score_field: str = "score"
    # where a hypothesis in JSON has its score; am_score: without the recogniser's own model
    numbered: bool = False
    # hypotheses are named utterance-1, utterance-2, ... as by Kaldi's nbest-to-linear
    scores: list[str] = paths_field()
    # files of "utterance-1 score", such as Kaldi's ac_cost and lm_cost; lists are then numbered and
    # hold no scores
    score_scales: list[float] = setting(list, renamed_from="scales")
    # what each of them is multiplied by before they are added up; []: 1
    ngram: str | None = path_field(None)
    # the directory of another run, of model=ngram as a rule, to mix with
    mix: list[str] = paths_field()
    # the directories of more runs to mix with
    mixing: Mixing = Mixing.auto
    # linear: of probabilities, token by token; log_linear: of the log-probabilities of hypotheses
    mixture_weights: list[float] = setting(list, renamed_from="shares")
    # of run, ngram and mix, in this order, summing to 1; []: equal, or found by tune
    lm_weight: float = setting(0.5, renamed_from="weight")
    # of the model's log-probability beside the score
    length_bonus: float = setting(0.0, renamed_from="bonus")
    # for each unit of length
    length_unit: LengthUnit = setting(LengthUnit.token, renamed_from="length")
    # the unit
    normalize: Normalize = Normalize.none
    # divides the model's log-probability by the tokens or eojeols of the hypothesis
    open_vocabulary: bool = True
    # a token that its id does not give back also pays for its spelling
    tune: str | None = path_field(None)
    # a file of references, "utterance text", JSON lines, ESPnet1's data.json or icefall's recogs
    # file: finds shares, weight and bonus
    tune_metric: ErrorRate = setting(ErrorRate.cer, renamed_from="target")
    # what tune makes small
    reference: str | None = path_field(None)
    # a file of references: tells error rates and tunes nothing
    output: str = path_field("-")
    # a file, a folder for espnet; -: stdout
    one_best: bool = setting(False, renamed_from="best")
    # write "utterance text" of the best hypothesis alone
    batch_size: int = 1000
    # hypotheses read at once

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "batch_size")
        self._at_most(1_000_000, "batch_size")
        self._at_least(0, "lm_weight")
        for key in ("lm_weight", "length_bonus"):
            if not math.isfinite(getattr(self, key)):
                self._fail(key, "must be a finite number")
        if not all(map(math.isfinite, self.score_scales)):
            self._fail("score_scales", "must be finite numbers")
        if self.score_scales and len(self.score_scales) != len(self.scores):
            self._fail("score_scales", f"must be as many as scores, {len(self.scores)}")
        num_models = 1 + (self.ngram is not None) + len(self.mix)
        if self.mixture_weights and len(self.mixture_weights) != num_models:
            self._fail("mixture_weights", f"must be as many as models, {num_models}")
        in_range = all(0 <= share <= 1 for share in self.mixture_weights)
        if self.mixture_weights and not (in_range and abs(sum(self.mixture_weights) - 1) < 1e-3):
            self._fail("mixture_weights", "must lie between 0 and 1 and sum to 1")
        if self.tune is not None and self.reference is not None:
            self._fail("reference", "leave it out, tune tells error rates as well")
