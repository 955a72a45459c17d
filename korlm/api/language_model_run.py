"""Define the run of a language model that ``korlm.load`` returns."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from korlm.api.evaluation import evaluate_as_trained, evaluate_language_models, evaluate_settings
from korlm.config import (
    RECORDING_PATTERN,
    EvaluateSettings,
    GenerateSettings,
    RescoreContext,
    RescoreSettings,
    ScoreContext,
    ScoreUnit,
    choice_of,
)
from korlm.dataset.text_encoder import checked_texts
from korlm.evaluation.evaluate import compare
from korlm.evaluation.surprisal.score import log_probs, surprisal_table
from korlm.evaluation.token_scores import Floats
from korlm.generation.completion import MAX_EXPANSIONS, Completions
from korlm.generation.generator import Generator
from korlm.rescoring.encoded_texts import same_vocab
from korlm.rescoring.features import ScoreWeights
from korlm.rescoring.lm_scorer import LMScorer
from korlm.rescoring.nbest import Hypothesis, NBest
from korlm.rescoring.recordings import RecordingNames
from korlm.rescoring.rescore import Rescored, rescore
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ConfigError, CorpusError, NbestError
from korlm.utils.torch_backend import tf32

_MODE_SETTINGS = ("ngram", "mix", "adapt", "cache", "dynamic")  # of modes beside that of training


@dataclass(frozen=True)
class LanguageModelRun(TrainedRun):
    """The best language model of a run; a context manager, which stops its tokenizer.

        run = korlm.load("outputs/runs/DIR")
        run.score(["나는 학교에 간다.", "나는 학교를 간다."])  # ln p of each text
        run.complete("밥을 먹ㅇ").eojeols
        run.generate("나는 학교에")

    The tokenizer starts with the first text (Kkma: about 1 s) and runs until ``close``, the end of
    a ``with`` block or of the object. Threads may share a run: its methods work one at a time.
    """

    @functools.cached_property
    def generator(self) -> Generator:
        """The generator of ``generate`` and ``complete``; not thread-safe."""
        return Generator(self)

    def warm_up(self) -> None:
        """Start the tokenizer and compute once, so that the next call does not wait for either."""
        self.surprisal("가", entropy=False)
        self.complete("가")

    def score(self, texts: str | Sequence[str], open_vocabulary: bool = True) -> Floats:
        """Return the natural log-probability of each text.

        The end of the text is included, as in ``python -m korlm.rescore``. Divided by -ln 2, it is
        the open_surprisal of ``surprisal(unit="sentence")``, or without open_vocabulary its
        surprisal.

        Args:
            texts: M texts, one sentence each; a str is a single text.
            open_vocabulary: add the cost of spelling tokens that their ids do not restore, so that
                scores can be compared between models of different vocabularies.

        Returns:
            float64 (M,), in nats; -inf for a text of probability 0.

        Raises:
            CorpusError: a text is not a str or has a lone surrogate.
            TokenizerError: the tokenizer of the run does not start.
        """
        with self.lock, tf32(False):
            return log_probs(self, texts, open_vocabulary)

    def surprisal(
        self,
        texts: str | Sequence[str],
        unit: ScoreUnit | str = ScoreUnit.morph,
        context: ScoreContext | str = ScoreContext.line,
        entropy: bool = True,
    ) -> pa.Table:
        """Return the surprisal of every morph, eojeol or sentence, in bits.

        Args:
            texts: one line each, together one document; a str is a single line.
            unit: unit of the rows: morph, eojeol or sentence.
            context: what a token is predicted from: line, document or carried.
            entropy: also compute the entropy of each prediction, which sentences do not have.

        Returns:
            The columns that ``python -m korlm.score`` writes. ``to_pandas()`` needs the package
            pandas.

        Raises:
            ConfigError: there is no such unit or context.
            CorpusError: a text is not a str or has a lone surrogate.
            TokenizerError: the tokenizer of the run does not start.
        """
        with self.lock, tf32(False):
            return surprisal_table(self, texts, unit, context, entropy)

    def complete(
        self, text: str, num_completions: int = 5, max_expansions: int = MAX_EXPANSIONS
    ) -> Completions:
        """Return the most probable completions of the last eojeol of a text.

        Args:
            text: any text, which may end within a syllable; after a space a new eojeol starts.
            num_completions: maximum number of completions.
            max_expansions: limit of the search; more finds rarer eojeols and takes longer.

        Raises:
            ConfigError: a number is out of bounds.
            CorpusError: the text is not a str or has a lone surrogate.
            TokenizerError: the tokenizer of the run does not start.
        """
        GenerateSettings(
            run="", num_completions=num_completions, max_expansions=max_expansions
        )  # checks the bounds
        checked_texts([text])
        with self.lock, tf32(False):
            return self.generator.complete(text, num_completions, max_expansions)

    def generate(
        self,
        prompt: str = "",
        *,
        seed: int | None = None,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float = 0.95,
        repetition_penalty: float = 1.0,
        max_tokens: int = 100,
        sentences: int = 1,
        beams: int | None = None,
        length_penalty: float = 0.6,
    ) -> str:
        """Return a text: sampled, another one at each call unless a seed is given.

        A beam search, and a temperature of 0, always return the same text.

        Args:
            prompt: start of the text, whose last eojeol may be unfinished; empty: the start of a
                sentence.
            seed: random seed; the same arguments return the same text. None: a random one.
            temperature: below 1 sharpens the distribution, above 1 flattens it; 0: the most
                probable token.
            top_k: sample from this number of most probable tokens; None: from all.
            top_p: sample from the fewest tokens that have this probability together; 1: from all.
            repetition_penalty: above 1: lower the probability of tokens already in the text.
            max_tokens: maximum number of generated tokens.
            sentences: sentences after which the text ends.
            beams: beam size of a beam search, whose best text is returned; None: sample.
            length_penalty: alpha of Wu et al. 2016 in the beam search; larger values prefer longer
                texts, 0: none.

        Returns:
            The text with its prompt, a sentence on each line.

        Raises:
            ConfigError: a number is out of bounds.
            CorpusError: the prompt is not a str or has a lone surrogate.
            TokenizerError: the tokenizer of the run does not start.
        """
        settings = GenerateSettings(
            run="",
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            max_tokens=max_tokens,
            sentences=sentences,
            beams=beams,
            length_penalty=length_penalty,
        )
        checked_texts([prompt])
        with self.lock, tf32(False):
            return "".join(next(self.generator.texts(prompt, settings))).removesuffix("\n")

    def rescore(
        self,
        nbest: Mapping[str, Sequence[tuple[str, float]]],
        lm_weight: float = 0.5,
        length_bonus: float = 0.0,
        mix: Sequence[TrainedRun] = (),
        mixture_weights: Sequence[float] = (),
        open_vocabulary: bool = True,
        context: RescoreContext | str = RescoreContext.utterance,
        recording_pattern: str = RECORDING_PATTERN,
    ) -> dict[str, list[Rescored]]:
        """Return n-best lists sorted by recognizer and language model scores, best first.

            run.rescore({"utt1": [("나는 간다", -7.1), ("나는 간 다", -7.0)]})["utt1"][0]

        Args:
            nbest: utterance -> hypotheses, each with the recognizer's score in nats (higher is
                better).
            lm_weight: weight of the log-probabilities; that of the recognizer's score is 1.
            length_bonus: added for each token.
            mix: other language models to mix with: linearly if all have the same tokens, else
                log-linearly.
            mixture_weights: weights of this run and the others, summing to 1; empty: equal weights.
            open_vocabulary: see ``score``.
            context: what a hypothesis is predicted from: utterance, or recording: also the chosen
                hypotheses of the utterances before it in its recording.
            recording_pattern: pattern of the names of utterances, by default
                recording-begin-end; see ``python -m korlm.rescore --help``.

        Raises:
            ConfigError: a text has probability 0, or a setting is wrong.
            NbestError: an utterance has no hypothesis, a score is not a number, or the name of an
                utterance does not fit the pattern.
            TokenizerError: the tokenizer of a run does not start.
        """
        if not isinstance(nbest, Mapping):
            raise ConfigError("nbest: give a dict, utterance -> [(text, score), ...]")
        if not isinstance(mix, Sequence) or not all(isinstance(run, TrainedRun) for run in mix):
            raise ConfigError("mix: give a list of runs, as korlm.load returns them")
        if isinstance(mixture_weights, tuple | np.ndarray):
            mixture_weights = list(mixture_weights)
        settings = RescoreSettings(
            run="",
            nbest="",
            mix=[""] * len(mix),
            mixture_weights=mixture_weights,  # type: ignore[arg-type]  # its type is checked here
            lm_weight=lm_weight,
            length_bonus=length_bonus,
            open_vocabulary=open_vocabulary,
            context=choice_of(RescoreContext, "context", context),
            recording_pattern=recording_pattern,
        )
        lists = [NBest(str(utt), _hypotheses(utt, hyps)) for utt, hyps in nbest.items()]
        runs, linear = [self, *mix], all(same_vocab(run, self) for run in mix)
        weights = ScoreWeights.from_settings(settings)
        recordings = RecordingNames.from_settings(settings)
        with self.lock, tf32(False):
            scorer = LMScorer(
                *(runs, linear, settings.mixture_weights, settings.open_vocabulary, self.device)
            )
            rescored = rescore(lists, scorer, weights, recordings=recordings)
            # Keys as given, which need not be str.
            return {utt: hyps for utt, (_, hyps) in zip(nbest, rescored, strict=True)}

    def evaluate(self, modes: bool = False, **settings: Any) -> dict[str, dict[str, Any]]:
        """Return the metrics of the run on valid and test, or on another text.

            run.evaluate()["test"]["perplexity"]
            run.evaluate(corpus={"name": "text", "files": ["book.txt"]})["text"]["bits_per_char"]

        Args:
            modes: evaluate in all modes of ``python -m korlm.evaluate`` (state carried or reset,
                cache, dynamic evaluation, mixtures) instead of that of the training.
            settings: of this command: ``corpus``, ``prepared``, ``outputs``, ``test``,
                ``bootstrap``, and with ``modes`` also ``ngram``, ``mix``, ``adapt``, ``cache``,
                ``dynamic``. A corpus that is not prepared yet is written to ``outputs``.

        Returns:
            Name of the split or corpus -> metrics with their intervals, as metrics.json has them;
            with ``modes`` name -> mode -> metrics.

        Raises:
            ConfigError: there is no such setting, or a value is wrong.
            KorlmError: a text is missing or does not fit.
        """
        for key in () if modes else settings:
            if key.partition(".")[0] in _MODE_SETTINGS:
                raise ConfigError(f"{key}: needs modes=True")
        parsed: EvaluateSettings = evaluate_settings(self, settings).settings
        with self.lock:
            if not modes:
                return evaluate_as_trained(parsed, self, self.device)
            results = evaluate_language_models(parsed, {"run": self}, self.device)
        return {text: compare(rows, parsed.bootstrap) for text, rows in results.items()}


def _hypotheses(utt: str, hyps: Sequence[tuple[str, float]]) -> list[Hypothesis]:
    """Return the hypotheses of an utterance."""
    try:
        converted = [Hypothesis(text, float(score)) for text, score in hyps]
        checked_texts(hyp.text for hyp in converted)
    except (TypeError, ValueError, OverflowError):
        raise NbestError(f"{utt}: each hypothesis must be (text, score)") from None
    except CorpusError as error:
        raise NbestError(f"{utt}: {error}") from None
    for hyp in converted:
        if math.isnan(hyp.score):
            raise NbestError(f"{utt}: {hyp.text!r}: the score is not a number")
    if not converted:
        raise NbestError(f"{utt}: has no hypothesis")
    return converted
