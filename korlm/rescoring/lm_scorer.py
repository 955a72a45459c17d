"""Compute log-probabilities of texts under trained models, single or as a linear mixture.

Axes: M texts, L tokens of all texts, K models.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import normalize
from korlm.dataset.text_encoder import TextEncoder
from korlm.evaluation.mixture import fit_weights, mix
from korlm.evaluation.token_scores import Floats, Ints, segment_sums, windows
from korlm.modules.state import State
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


class _Tokens(NamedTuple):
    """Encoded texts: ids (L,), spelling_nats (L,), lengths (M,)."""

    ids: Ints
    spelling_nats: Floats
    lengths: Ints

    @classmethod
    def joined(cls, parts: Sequence[_Tokens]) -> _Tokens:
        """Concatenate texts."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


@dataclass(frozen=True)
class EncodedTexts:
    """M texts of one batch, or of several contexts.

    Attributes:
        texts: the distinct texts of each context, with single spaces and NFC.
        indices: (M,), distinct text of each text.
        tokens: tokens of the distinct texts, for each group of models with the same vocabulary.
        contexts: index of the context of each distinct text.
    """

    texts: list[str]
    indices: Ints
    tokens: tuple[_Tokens, ...]
    contexts: Ints

    @classmethod
    def joined(cls, parts: Sequence[EncodedTexts]) -> EncodedTexts:
        """Join the texts of several contexts."""
        sizes = [len(part.texts) for part in parts]
        offsets = np.cumsum(sizes) - sizes
        return cls(
            [text for part in parts for text in part.texts],
            np.concatenate([part.indices + at for part, at in zip(parts, offsets, strict=True)]),
            tuple(map(_Tokens.joined, zip(*(part.tokens for part in parts), strict=True))),
            np.repeat(np.arange(len(parts)), sizes),
        )


class LMScorer:
    """Computes log-probabilities of texts; a context manager, since it starts tokenizers.

    Args:
        runs: K runs. Those with the same vocabulary share one tokenizer.
        linear: mix the probabilities of each token; all runs must have the same vocabulary.
        mixture_weights: weights of the linear mixture, summing to 1; empty: equal weights.
        open_vocabulary: add the cost of spelling tokens that their ids do not restore.
        device: device to compute on.
        text_encoder: ``runs[0].text_encoder()`` of the caller, who closes it; None: a new one.
    """

    def __init__(
        self,
        runs: Sequence[TrainedRun],
        linear: bool = False,
        mixture_weights: Sequence[float] = (),
        open_vocabulary: bool = True,
        device: torch.device | None = None,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        self.runs = list(runs)
        self.linear = linear
        self.open_vocabulary = open_vocabulary
        self.device = device or torch.device("cpu")
        self.mixture_weights = np.array(mixture_weights or [1 / len(runs)] * len(runs))
        self._models = [run.inference_model(self.device) for run in runs]
        self._groups = _groups(self.runs)
        assert not linear or len(self._groups) == 1
        self._stack = contextlib.ExitStack()
        self._encoders = [] if text_encoder is None else [text_encoder]
        for first, *_ in self._groups[len(self._encoders) :]:
            self._encoders.append(self._stack.enter_context(runs[first].text_encoder()))

    def __enter__(self) -> LMScorer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(None, None, None)

    def score(self, texts: Sequence[str]) -> TextScores:
        """Score a few texts.

        Raises:
            ConfigError: see ``score_all``.
        """
        (scores,) = self.score_all([texts])
        return scores

    def score_all(self, batches: Iterable[Sequence[str]]) -> Iterator[TextScores]:
        """Yield the scores of each batch.

        The texts of a batch share the computation of common prefixes. Tokenizers in other processes
        work on later batches meanwhile.

        Args:
            batches: one text or more each; runs of spaces count as one.

        Raises:
            ConfigError: a model assigns probability 0 to a text.
        """
        for encoded in self.encode(batches):
            yield self.score_encoded(encoded)

    def encode(self, batches: Iterable[Sequence[str]]) -> Iterator[EncodedTexts]:
        """Yield batches of texts, encoded; see ``score_all``."""
        normalized = ([normalize_spaces(text) for text in batch] for batch in batches)
        originals, *copies = itertools.tee(normalized, 1 + len(self._encoders))
        encoded = (
            _encode_batches(encoder, (list(dict.fromkeys(batch)) for batch in copy))
            for encoder, copy in zip(self._encoders, copies, strict=True)
        )
        for texts, tokens in zip(originals, zip(*encoded, strict=True), strict=True):
            distinct = {text: index for index, text in enumerate(dict.fromkeys(texts))}
            indices = np.array([distinct[text] for text in texts])
            contexts = np.zeros(len(distinct), dtype=np.int64)
            yield EncodedTexts(list(distinct), indices, tokens, contexts)

    def score_encoded(
        self, encoded: EncodedTexts, states: Sequence[State] | None = None
    ) -> TextScores:
        """Return the scores of texts.

        Args:
            encoded: the texts.
            states: state of each model, with a row for each context of the texts; None: the initial
                states, and one context.

        Raises:
            ConfigError: a model assigns probability 0 to a text.
        """
        states = self.initial_states(1) if states is None else states
        parts = []
        for group, tokens in zip(self._groups, encoded.tokens, strict=True):
            nats = self._token_nats(group, tokens, encoded.contexts, states)
            if self.linear:
                nats = mix(nats, self.mixture_weights)[None]
            if self.open_vocabulary:
                nats = nats + tokens.spelling_nats
            parts.append(-segment_sums(nats, tokens.lengths))
        log_probs = np.empty((1 if self.linear else len(self.runs), len(encoded.texts)))
        rows = [0] if self.linear else [row for group in self._groups for row in group]
        log_probs[rows] = np.concatenate(parts)
        self._check_finite(log_probs, encoded.texts)
        num_tokens = encoded.tokens[0].lengths[encoded.indices]
        return TextScores(log_probs[:, encoded.indices], num_tokens)

    def initial_states(self, num_contexts: int) -> list[State]:
        """Return the initial state of each model, with a row for each context."""
        return [model.initial_state(num_contexts) for model in self._models]

    @torch.inference_mode()
    def advance(self, encoded: EncodedTexts, chosen: Ints, states: Sequence[State]) -> list[State]:
        """Return the state of each model after a text of each context, without its <eos>.

        The next text begins with the input that predicts its first token, as any text does.

        Args:
            encoded: the texts.
            chosen: the chosen text of each context, among all M.
            states: states before the texts.
        """
        new_states = list(states)
        for group, tokens in zip(self._groups, encoded.tokens, strict=True):
            texts = encoded.indices[chosen]
            starts, lengths = (
                (np.cumsum(tokens.lengths) - tokens.lengths)[texts],
                tokens.lengths[texts],
            )
            for row in group:
                start_id = self.runs[row].start_id
                _, inputs, _ = next(windows(tokens.ids, starts, lengths, start_id, lengths.max()))
                ids = torch.from_numpy(inputs).to(self.device)
                _, new_states[row] = self._models[row].token_nll(
                    ids, ids, states[row], torch.from_numpy(lengths)
                )
        return new_states

    def fit_mixture_weights(self, texts: Sequence[str]) -> None:
        """Set the weights of the linear mixture to those with the lowest loss on some texts.

        They are rounded to four decimals, so that users can copy them.
        """
        assert self.linear
        batches = [texts[first : first + FIT_BATCH] for first in range(0, len(texts), FIT_BATCH)]
        states = self.initial_states(1)
        nats = [
            self._token_nats(self._groups[0], encoded.tokens[0], encoded.contexts, states)
            for encoded in self.encode(batches)
        ]
        weights = np.round(fit_weights(np.concatenate(nats, 1)), 4)
        largest = weights.argmax()
        weights[largest] = np.round(weights[largest] + 1 - weights.sum(), 4)
        self.mixture_weights = weights

    def _token_nats(
        self, group: Sequence[int], tokens: _Tokens, contexts: Ints, states: Sequence[State]
    ) -> Floats:
        """Return -ln p of each token under each model of a group, (models, L)."""
        tree = PrefixTree.build(tokens.ids, tokens.lengths, contexts)
        rows = [
            tree_nats(self._models[row], tree, self.runs[row].start_id, states[row])
            for row in group
        ]
        return np.stack(rows)[:, tree.node_of]

    def _check_finite(self, log_probs: Floats, texts: Sequence[str]) -> None:
        for index, row in np.argwhere(~np.isfinite(log_probs.T))[:1]:
            raise ConfigError(
                f"run {self.runs[row].folder}: ln p of {texts[index]!r} is "
                f"{log_probs[row, index]}; use a model without zero probabilities, or mix it with "
                "one"
            )


def normalize_spaces(text: str) -> str:
    """Normalize to NFC with single spaces: recognizers differ in spacing."""
    return " ".join(normalize(text).split())


def same_vocab(run: TrainedRun, other: TrainedRun) -> bool:
    """Return whether two runs encode a text to the same ids."""
    return (
        run.vocab.tokens == other.vocab.tokens
        and run.settings.tokenizer.name == other.settings.tokenizer.name
        and run.tokenizer_model == other.tokenizer_model
    )


def _groups(runs: Sequence[TrainedRun]) -> list[list[int]]:
    """Group the indices of runs by vocabulary, the group of the first run first."""
    groups: list[list[int]] = []
    for index, run in enumerate(runs):
        for group in groups:
            if same_vocab(run, runs[group[0]]):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _encode_batches(encoder: TextEncoder, batches: Iterable[list[str]]) -> Iterator[_Tokens]:
    """Encode batches of texts; the encoder itself returns batches of another size."""
    sizes: collections.deque[int] = collections.deque()

    def blocks() -> Iterator[LineBlock]:
        for batch in batches:
            sizes.append(len(batch))
            yield LineBlock("text", "", 1, batch)

    pending = _Tokens(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    for lines in encoder.read(blocks()):
        pending = _Tokens.joined([pending, _Tokens(*lines.with_blank_lines())])
        while sizes and len(pending.lengths) >= sizes[0]:
            size = sizes.popleft()
            ids, spelling_nats, lengths = pending
            end = int(lengths[:size].sum())
            yield _Tokens(ids[:end], spelling_nats[:end], lengths[:size])
            pending = _Tokens(ids[end:], spelling_nats[end:], lengths[size:])
