"""Compute log-probabilities of texts under trained models, single or as a linear mixture.

Axes: M texts, D distinct texts, L tokens of the distinct texts, K models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from korlm.evaluation.mixture import fit_weights, mix
from korlm.evaluation.token_scores import Floats, Ints, segment_sums, windows
from korlm.modules.base import State
from korlm.rescoring.encoded_texts import (
    EncodedTexts,
    GroupTokens,
    RunGroup,
    encode_texts,
    group_runs,
)
from korlm.rescoring.prefix_tree import PrefixTree, tree_nats
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ConfigError

FIT_BATCH = 1000  # texts per batch when mixture weights are fitted


@dataclass(frozen=True)
class TextScores:
    """Scores of M texts.

    Attributes:
        log_probs: (K, M), natural logs, <eos> included; K is 1 for a linear mixture.
        num_tokens: (M,), tokens of the first model, <eos> included.
    """

    log_probs: Floats
    num_tokens: Ints


class LMScorer:
    """Computes log-probabilities of texts; a context manager that stops the runs' tokenizers.

    Args:
        runs: K runs. Those that encode text alike (``same_vocab``) share one tokenizer.
        linear: mix the probabilities of each token; all runs must encode text alike.
        mixture_weights: weights of the linear mixture, summing to 1; empty: equal weights. They
            have no effect without ``linear``.
        open_vocabulary: add the cost of spelling tokens that their ids do not restore. Each run has
            a spelling model of its own, so it belongs to the probabilities that are mixed.
        device: device to compute on; None: the CPU.

    Raises:
        ConfigError: there is no run, the runs of a linear mixture encode text differently, or the
            weights do not fit.
    """

    def __init__(
        self,
        runs: Sequence[TrainedRun],
        linear: bool = False,
        mixture_weights: Sequence[float] = (),
        open_vocabulary: bool = True,
        device: torch.device | None = None,
    ) -> None:
        self.runs = list(runs)
        self.linear = linear
        self.open_vocabulary = open_vocabulary
        self.device = device or torch.device("cpu")
        if not runs:
            raise ConfigError("runs: give at least one run")
        self.mixture_weights = np.full(len(runs), 1 / len(runs))
        if linear and len(mixture_weights):
            self.mixture_weights = _checked_weights(mixture_weights, len(runs))
        self._groups = group_runs(self.runs)
        if linear and len(self._groups) > 1:
            first, other = (runs[group.rows[0]].folder for group in self._groups[:2])
            raise ConfigError(
                f"the runs {first} and {other} encode text differently, so their probabilities "
                "cannot be mixed token by token; use runs of the same prepared corpus, or a "
                "log-linear mixture"
            )
        self._models = [run.inference_model(self.device) for run in runs]

    def __enter__(self) -> LMScorer:
        return self

    def __exit__(self, *error: object) -> None:
        for group in self._groups:
            group.encoder.close()

    def score(self, texts: Sequence[str]) -> TextScores:
        """Score one text or more; runs of spaces count as one.

        The texts share the computation of common prefixes.

        Raises:
            ConfigError: a model assigns probability 0 to a text.
            CorpusError: there is no text; one is not a string, or contains a lone surrogate.
        """
        return self.score_encoded(self.encode([texts]))

    def encode(self, contexts: Sequence[Sequence[str]]) -> EncodedTexts:
        """Encode the texts of each context; another thread may call it.

        Raises:
            CorpusError: see ``score``.
        """
        return encode_texts(contexts, self._groups)

    def score_encoded(
        self, encoded: EncodedTexts, states: Sequence[State] | None = None
    ) -> TextScores:
        """Return the scores of texts.

        The states have a row for each context of the texts; None: the initial states, and one
        context.

        Raises:
            ConfigError: a model assigns probability 0 to a text.
        """
        states = self.initial_states(1) if states is None else states
        parts = []
        for group, tokens in zip(self._groups, encoded.tokens, strict=True):
            nats = self._token_nats(group, tokens, encoded.contexts, states)
            if self.linear:
                nats = mix(nats, self.mixture_weights)[None]
            parts.append(-segment_sums(nats, tokens.lengths))
        log_probs = np.empty((1 if self.linear else len(self.runs), len(encoded.texts)))
        rows = [0] if self.linear else [row for group in self._groups for row in group.rows]
        log_probs[rows] = np.concatenate(parts)
        self._check_finite(log_probs, encoded.texts)
        num_tokens = encoded.tokens[0].lengths[encoded.indices]
        return TextScores(log_probs[:, encoded.indices], num_tokens)

    def initial_states(self, num_contexts: int) -> list[State]:
        """Return the initial state of each model, with a row for each context."""
        return [model.initial_state(num_contexts) for model in self._models]

    @torch.inference_mode()
    def advance(self, encoded: EncodedTexts, chosen: Ints, states: Sequence[State]) -> list[State]:
        """Return the state of each model after a chosen text of each context.

        The model has read start_id and the tokens of the text, but not its <eos>: the start_id of
        the next text takes its place.

        ``chosen`` is the index of the chosen text of each context among all M; ``states`` are those
        before the texts.
        """
        new_states = list(states)
        for group, tokens in zip(self._groups, encoded.tokens, strict=True):
            texts = encoded.indices[chosen]
            starts = (np.cumsum(tokens.lengths) - tokens.lengths)[texts]
            lengths = tokens.lengths[texts]
            for row in group.rows:
                start_id = self.runs[row].start_id
                _, inputs, _ = next(windows(tokens.ids, starts, lengths, start_id, lengths.max()))
                ids = torch.from_numpy(inputs).to(self.device)
                # Unlike LanguageModel.advance, token_nll accepts rows of different lengths; its
                # targets do not matter.
                _, new_states[row] = self._models[row].token_nll(
                    ids, ids, states[row], torch.from_numpy(lengths)
                )
        return new_states

    def fit_mixture_weights(self, texts: Sequence[str]) -> None:
        """Set the weights of the linear mixture to those with the lowest loss on some texts.

        They are rounded to four decimals, so that users can copy them. A text that occurs several
        times counts as often.
        """
        assert self.linear
        states = self.initial_states(1)
        nats = []
        for first in range(0, len(texts), FIT_BATCH):
            encoded = self.encode([texts[first : first + FIT_BATCH]])
            (tokens,) = encoded.tokens
            distinct = self._token_nats(self._groups[0], tokens, encoded.contexts, states)
            repeats = np.bincount(encoded.indices)
            nats.append(distinct.repeat(repeats.repeat(tokens.lengths), axis=1))
        weights = np.round(fit_weights(np.concatenate(nats, 1)), 4)
        largest = weights.argmax()
        weights[largest] = np.round(weights[largest] + 1 - weights.sum(), 4)
        self.mixture_weights = weights

    def _token_nats(
        self, group: RunGroup, tokens: GroupTokens, contexts: Ints, states: Sequence[State]
    ) -> Floats:
        """Return -ln p of each token under each run of a group, (runs, L).

        With an open vocabulary, p includes the spelling of the token.
        """
        tree = PrefixTree.build(tokens.ids, tokens.lengths, contexts)
        rows = [
            tree_nats(self._models[row], tree, self.runs[row].start_id, states[row])
            for row in group.rows
        ]
        nats = np.stack(rows)[:, tree.node_of]
        return nats + tokens.spelling_nats if self.open_vocabulary else nats

    def _check_finite(self, log_probs: Floats, texts: Sequence[str]) -> None:
        broken = np.argwhere(~np.isfinite(log_probs.T))
        if not len(broken):
            return
        index, row = broken[0]
        what = f"ln p of {texts[index]!r} is {log_probs[row, index]}"
        if self.linear and len(self.runs) > 1:
            folders = ", ".join(str(run.folder) for run in self.runs)
            raise ConfigError(
                f"linear mixture of {folders}: {what}; give a positive weight to a run without "
                "zero probabilities"
            )
        raise ConfigError(
            f"run {self.runs[row].folder}: {what}; use a run without zero probabilities, or a "
            "linear mixture with one"
        )


def _checked_weights(weights: Sequence[float], num_runs: int) -> Floats:
    """Return the weights of a linear mixture, (K,).

    Raises:
        ConfigError: they are not K numbers from 0 on that sum to 1.
    """
    array = np.asarray(weights, dtype=np.float64)
    # The tolerance is that of korlm.rescore.
    if array.shape != (num_runs,) or not (array.min() >= 0 and abs(array.sum() - 1) < 1e-3):
        raise ConfigError(
            f"mixture_weights={array.tolist()}: must be {num_runs} numbers, none of them negative, "
            "that sum to 1"
        )
    return array
