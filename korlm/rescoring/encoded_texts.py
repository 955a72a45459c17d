"""Encode texts for several runs; those that encode text alike share a tokenizer.

Axes: M texts, D distinct texts, L tokens of the distinct texts.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from korlm.corpus.normalization import normalize
from korlm.corpus.records import LineBlock
from korlm.dataset.text_encoder import EncodedText, checked_texts
from korlm.evaluation.token_scores import Floats, Ints
from korlm.runs.trained_run import TrainedRun
from korlm.tokenizers.registry import tokenizer_version
from korlm.utils.errors import CorpusError

Batch = TypeVar("Batch")


class GroupTokens(NamedTuple):
    """Distinct texts, encoded for a group of runs.

    Attributes:
        ids: (L,), the same for all runs of the group.
        lengths: (D,), tokens of each text.
        spelling_nats: (runs, L), cost of spelling each token under the spelling model of each run.
    """

    ids: Ints
    lengths: Ints
    spelling_nats: Floats


@dataclass(frozen=True)
class EncodedTexts:
    """M texts of one context or several.

    Attributes:
        texts: the D distinct texts, with single spaces and NFC. Equal texts of different contexts
            are distinct.
        indices: (M,), index of each text among the distinct ones.
        contexts: (D,), index of the context of each distinct text.
        tokens: tokens of the distinct texts, for each group of runs with the same ids.
    """

    texts: list[str]
    indices: Ints
    contexts: Ints
    tokens: list[GroupTokens]


class RunGroup:
    """Runs that encode any text as the same ids, with one tokenizer.

    Attributes:
        rows: index of each run among all runs.
        encoder: encodes text for the first run.
    """

    def __init__(self, runs: Sequence[TrainedRun], rows: Sequence[int]) -> None:
        self.rows = rows
        self._runs = [runs[row] for row in rows]
        self.encoder = self._runs[0].text_encoder()

    def encode(self, texts: list[str]) -> GroupTokens:
        """Encode texts, in parallel if the tokenizer has several processes or threads."""
        lines = EncodedText.concatenate(list(self.encoder.read([LineBlock("text", "", 1, texts)])))
        ids, first_nats, lengths = lines.with_blank_lines()
        others = (
            EncodedText.from_table(lines.table, run.vocab, run.spelling, lines.unicode)
            for run in self._runs[1:]
        )
        nats = [first_nats, *(other.with_blank_lines()[1] for other in others)]
        return GroupTokens(ids, lengths, np.stack(nats))


def encode_texts(contexts: Sequence[Sequence[str]], groups: Sequence[RunGroup]) -> EncodedTexts:
    """Encode the texts of each context, one text or more.

    Raises:
        CorpusError: a context has no text; a text is not a string, or contains a lone surrogate.
    """
    distinct: dict[tuple[int, str], int] = {}
    indices = []
    for context, texts in enumerate(contexts):
        checked = checked_texts(texts)
        if not checked:
            raise CorpusError("texts: a batch is empty; give at least one text")
        for text in checked:
            key = context, normalize_spaces(text)
            indices.append(distinct.setdefault(key, len(distinct)))
    unique = [text for _, text in distinct]
    return EncodedTexts(
        unique,
        np.array(indices),
        np.array([context for context, _ in distinct]),
        [group.encode(unique) for group in groups],
    )


def encode_ahead(
    encode: Callable[[Batch], EncodedTexts], batches: Iterable[Batch]
) -> Iterator[tuple[Batch, EncodedTexts]]:
    """Yield batches with their encoded texts; a thread encodes the next batch meanwhile."""
    thread = ThreadPoolExecutor(1)
    following: collections.deque[tuple[Batch, Future[EncodedTexts]]] = collections.deque()
    try:
        for batch in batches:
            following.append((batch, thread.submit(encode, batch)))
            if len(following) > 1:
                batch, encoded = following.popleft()
                yield batch, encoded.result()
        for batch, encoded in following:
            yield batch, encoded.result()
    finally:  # raise an error at once: the batch being encoded ends with the tokenizer
        thread.shutdown(wait=False, cancel_futures=True)


def normalize_spaces(text: str) -> str:
    """Normalize to NFC with single spaces: recognizers differ in spacing."""
    return " ".join(normalize(text).split())


def same_vocab(run: TrainedRun, other: TrainedRun) -> bool:
    """Return whether two runs encode any text as the same ids.

    Raises:
        TokenizerError: a package of a tokenizer is missing.
    """
    return _id_settings(run) == _id_settings(other)


def _id_settings(run: TrainedRun) -> tuple[object, ...]:
    """Return everything that decides about the ids of a text."""
    vocab, settings = run.vocab, run.settings
    return (
        vocab.tokens,
        vocab.lowercase,
        vocab.normalize_numbers,
        settings.corpus.unicode,
        settings.tokenizer.name,
        run.tokenizer_model,
        tokenizer_version(settings.tokenizer, run.tokenizer_model),
    )


def group_runs(runs: Sequence[TrainedRun]) -> list[RunGroup]:
    """Group runs with the same ids, the group of the first run first."""
    groups: list[list[int]] = []
    for row, run in enumerate(runs):
        group = next((group for group in groups if same_vocab(run, runs[group[0]])), None)
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    return [RunGroup(runs, rows) for rows in groups]
