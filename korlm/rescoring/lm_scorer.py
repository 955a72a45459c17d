"""Texts -> the log-probabilities that trained models give them, singly or mixed."""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from korlm.corpus.lines import LineBlock
from korlm.corpus.normalization import normalize
from korlm.dataset.text_encoder import TextEncoder
from korlm.dataset.vocab import EOS_ID
from korlm.evaluation.mixture import fit_weights, mix
from korlm.evaluation.token_scores import Nats
from korlm.rescoring.prefix_tree import Ints, PrefixTree, tree_nats
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ConfigError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TextScores:
    """What M texts are worth.

    Attributes:
        log_probs: (K, M), natural logs, <eos> included; K is 1 where models are mixed linearly.
        num_tokens: (M,) of the first model, <eos> included.
    """

    log_probs: Floats
    num_tokens: Ints


@dataclass(frozen=True)
class _Tokens:
    """Texts as a vocabulary knows them: ids (N,), what spelling costs (N,), lengths (texts,)."""

    ids: Ints
    spelling_nats: Nats
    lengths: Ints

    def sums(self, nats: Nats) -> Nats:
        """(..., N) of tokens -> (..., texts)."""
        return np.add.reduceat(nats, np.cumsum(self.lengths) - self.lengths, axis=-1)


class LMScorer:
    """Gives texts their log-probabilities; a context manager, since it starts tokenizers.

    Args:
        runs: whose models to use. Those with the same vocabulary read a text once.
        linear: mix probabilities token by token; all must know the same vocabulary.
        shares: of the models in a linear mixture, summing to 1; none: equal ones.
        open_vocabulary: a token that its id does not give back also pays for its spelling.
        device: where to compute.
    """

    def __init__(
        self,
        runs: Sequence[TrainedRun],
        linear: bool = False,
        shares: Sequence[float] = (),
        open_vocabulary: bool = True,
        device: torch.device | None = None,
    ) -> None:
        self.runs = list(runs)
        self.linear = linear
        self.open_vocabulary = open_vocabulary
        self.device = device or torch.device("cpu")
        self.shares = np.array(shares or [1 / len(runs)] * len(runs))
        self._models = [run.model.inference_copy().to(self.device) for run in runs]
        self._groups = _groups(self.runs)
        assert not linear or len(self._groups) == 1
        self._stack = contextlib.ExitStack()
        self._readers = [
            self._stack.enter_context(runs[group[0]].reader()) for group in self._groups
        ]

    def __enter__(self) -> LMScorer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(None, None, None)

    def score(self, texts: Sequence[str]) -> TextScores:
        """A few texts at once.

        Raises:
            ConfigError: as ``score_all``.
        """
        (scores,) = self.score_all([texts])
        return scores

    def score_all(self, batches: Iterable[Sequence[str]]) -> Iterator[TextScores]:
        """Batch by batch, each beginning that texts of a batch share read once.

        Tokenizers that work in other processes work ahead meanwhile.

        Args:
            batches: of one text or more; how many blanks stand in a row does not count.

        Raises:
            ConfigError: a model gives a text no chance at all.
        """
        for texts, tokens in self._read(batches):
            distinct = {text: at for at, text in enumerate(dict.fromkeys(texts))}
            places = np.array([distinct[text] for text in texts])
            parts = [
                self._score_group(group, part)
                for group, part in zip(self._groups, tokens, strict=True)
            ]
            log_probs = np.empty((1 if self.linear else len(self.runs), len(distinct)))
            rows = [0] if self.linear else [row for group in self._groups for row in group]
            log_probs[rows] = np.concatenate(parts)
            self._refuse_impossible(log_probs, list(distinct))
            yield TextScores(log_probs[:, places], tokens[0].lengths[places])

    def fit_mixture_weights(self, texts: Sequence[str]) -> None:
        """Takes those shares of a linear mixture under which the texts are most probable.

        They are rounded, so that a user can give them again.
        """
        assert self.linear
        batches = [texts[at : at + 1000] for at in range(0, len(texts), 1000)]
        nats = [self._token_nats(self._groups[0], part) for _, (part,) in self._read(batches)]
        self.shares = np.round(fit_weights(np.concatenate(nats, 1)), 4)
        most = self.shares.argmax()
        self.shares[most] = np.round(self.shares[most] + 1 - self.shares.sum(), 4)

    def _read(
        self, batches: Iterable[Sequence[str]]
    ) -> Iterator[tuple[list[str], tuple[_Tokens, ...]]]:
        """Batches with their blanks put right; their distinct texts as each group knows them."""
        clean = ([normalize_spaces(text) for text in batch] for batch in batches)
        mine, *copies = itertools.tee(clean, 1 + len(self._readers))
        tokens = (
            _tokens(reader, (list(dict.fromkeys(batch)) for batch in copy))
            for reader, copy in zip(self._readers, copies, strict=True)
        )
        yield from zip(mine, zip(*tokens, strict=True), strict=True)

    def _score_group(self, group: Sequence[int], tokens: _Tokens) -> Floats:
        """(1, texts) of a linear mixture, (models, texts) otherwise."""
        nats = self._token_nats(group, tokens)
        if self.linear:
            nats = mix(nats, self.shares)[None]
        if self.open_vocabulary:
            nats = nats + tokens.spelling_nats
        return -tokens.sums(nats)

    def _token_nats(self, group: Sequence[int], tokens: _Tokens) -> Nats:
        """What each model takes for each token, (models, N)."""
        tree = PrefixTree.of(tokens.ids, tokens.lengths)
        rows = [
            tree_nats(self._models[row], tree, self.runs[row].start_id, self.device)
            for row in group
        ]
        return np.stack(rows)[:, tree.node_of]

    def _refuse_impossible(self, log_probs: Floats, texts: Sequence[str]) -> None:
        for at in np.flatnonzero(~np.isfinite(log_probs).all(0))[:1]:
            row = int(np.flatnonzero(~np.isfinite(log_probs[:, at]))[0])
            raise ConfigError(
                f"run {self.runs[row].folder}: ln p of {texts[at]!r} is {log_probs[row, at]}; use "
                "a model that gives every text a chance, or mix it with one that does"
            )


def normalize_spaces(text: str) -> str:
    """NFC, one blank between eojeols, none around them: recognisers write blanks as they like."""
    return " ".join(normalize(text).split())


def same_vocab(run: TrainedRun, other: TrainedRun) -> bool:
    """Whether the two read a text as the same ids."""
    return (
        run.vocab.tokens == other.vocab.tokens
        and run.settings.tokenizer.name == other.settings.tokenizer.name
        and run.tokenizer_model == other.tokenizer_model
    )


def _groups(runs: Sequence[TrainedRun]) -> list[list[int]]:
    """Places of the runs that share a vocabulary, the first run's group first."""
    groups: list[list[int]] = []
    for place, run in enumerate(runs):
        for group in groups:
            if same_vocab(run, runs[group[0]]):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _tokens(reader: TextEncoder, batches: Iterable[list[str]]) -> Iterator[_Tokens]:
    """Batches of lines -> their tokens, batch by batch, though the reader cuts them otherwise."""
    sizes: collections.deque[int] = collections.deque()

    def lines() -> Iterator[LineBlock]:
        for batch in batches:
            sizes.append(len(batch))
            yield LineBlock("text", "", 1, batch)

    ids, spelling, lengths = np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
    for reading in reader.read(lines()):
        ids = np.concatenate([ids, reading.ids])
        spelling = np.concatenate([spelling, reading.spelling_nats])
        lengths = np.concatenate([lengths, reading.lengths])
        while sizes and len(lengths) >= sizes[0]:
            size = sizes.popleft()
            end = int(lengths[:size].sum())
            yield _with_blank(_Tokens(ids[:end], spelling[:end], lengths[:size]))
            ids, spelling, lengths = ids[end:], spelling[end:], lengths[size:]


def _with_blank(tokens: _Tokens) -> _Tokens:
    """A text of nothing is an <eos> too: saying nothing is a hypothesis as well."""
    begins = np.cumsum(tokens.lengths) - tokens.lengths
    at = begins[tokens.lengths == 0]
    return _Tokens(
        np.insert(tokens.ids, at, EOS_ID),
        np.insert(tokens.spelling_nats, at, 0.0),
        np.maximum(tokens.lengths, 1),
    )
